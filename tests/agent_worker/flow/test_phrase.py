"""The grammar and the patterns of a phrase accept the same sentences; texts are matched to phrases."""

import re

import pytest

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.phrase import (
    InvalidPhrase,
    PhraseMatcher,
    parse_phrase,
    sentences,
    slot_values,
    to_grammar,
    to_jsgf,
    to_regex,
)

VALUES = {"size": ["two", "half past two"], "day": ["today"]}


def test_phrase_as_a_grammar_rule() -> None:
    phrase = parse_phrase("[i would like to] book (a table | tables) for {size}")
    assert to_jsgf(phrase) == "([(i would like to)] book (a table | tables) for <slot_size>)"


def test_sentences_of_a_phrase() -> None:
    found = list(sentences(parse_phrase("[please] (a | the) table {day}"), VALUES))
    assert sorted(found) == [
        "a table today",
        "please a table today",
        "please the table today",
        "the table today",
    ]


@pytest.mark.parametrize("text", ["[so] (one | two more) {size} {day}", "{size}", "a | b c | [d] e"])
def test_every_sentence_of_a_phrase_matches_it(text: str) -> None:
    phrase = parse_phrase(text)
    pattern = re.compile(to_regex(phrase, VALUES))
    assert all(pattern.fullmatch(f"{sentence} ") for sentence in sentences(phrase, VALUES))


def test_longest_value_fills_a_slot() -> None:
    match = re.fullmatch(to_regex(parse_phrase("at {size}"), VALUES), "at half past two ")
    assert match is not None
    assert match["size"] == "half past two"


@pytest.mark.parametrize(
    "text", ["", "[a", "a]", "(a", "a |", "()", "[a] [b]", "Capital", "{two words}", "{a} {a}", "a(b]"]
)
def test_invalid_phrase_raises(text: str) -> None:
    with pytest.raises(InvalidPhrase):
        parse_phrase(text)


BOOKING_SENTENCES = {
    "hello": ("hello", {}),
    "i would like to book a table for two": ("book", {"party_size": 2}),
    "i would like to book a table for three": ("book", {"party_size": 3}),
    "i would like to book a table for four": ("book", {"party_size": 4}),
    "i would like to book a table for five": ("book", {"party_size": 5}),
    "i would like to book a table for six": ("book", {"party_size": 6}),
    "i would like to book a table for seven": ("book", {"party_size": 7}),
    "i would like to book a table for eight": ("book", {"party_size": 8}),
    "tomorrow at seven": ("when", {"day": "tomorrow", "time": "19:00"}),
    "on friday at half past eight": ("when", {"day": "friday", "time": "20:30"}),
    "yes please": ("yes", {}),
    "no thank you": ("no", {}),
    "may i speak to the manager": ("manager", {}),
    "thank you good bye": ("goodbye", {}),
}


@pytest.mark.parametrize("sentence", BOOKING_SENTENCES)
def test_sentences_of_the_booking_flow_match(sentence: str, booking: Flow) -> None:
    match = PhraseMatcher(booking).match(sentence)
    assert match is not None
    assert (match.phrase, slot_values(booking, match.slots)) == BOOKING_SENTENCES[sentence]


def test_case_and_punctuation_are_ignored(booking: Flow) -> None:
    match = PhraseMatcher(booking).match("Thank you,  good bye!")
    assert match is not None
    assert match.phrase == "goodbye"


@pytest.mark.parametrize(
    "words", ["", "(unclear)", "yes", "book a table for nine", "yes please hello", "(unclear) yes please"]
)
def test_other_words_do_not_match(words: str, booking: Flow) -> None:
    assert PhraseMatcher(booking).match(words) is None


def test_grammar_has_every_phrase_and_slot(booking: Flow) -> None:
    grammar = to_grammar(booking)
    assert grammar.startswith("#JSGF V1.0;\ngrammar flow;\npublic <phrase> = (hello)")
    assert "<slot_party_size> = two | three" in grammar


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yes " * 2_000, "more than 400 words"),
        ("(" * 2_000 + "yes" + ")" * 2_000, "more than 400 words"),
        ("(" * 21 + "yes" + ")" * 21, "more than 20 brackets within"),
        ("please " + "[" * 199 + "yes" + "]" * 199, "more than 20 brackets within"),
    ],
)
def test_phrase_without_end_is_invalid(text: str, why: str) -> None:
    with pytest.raises(InvalidPhrase, match=why):
        parse_phrase(text)


@pytest.mark.parametrize(
    "text", ["yes " * 400, "(" * 20 + "yes" + ")" * 20, "please " + "[yes " * 20 + "]" * 20]
)
def test_largest_phrase_can_be_used(text: str) -> None:
    phrase = parse_phrase(text)
    matched = list(sentences(phrase, {}))
    assert re.fullmatch(to_regex(phrase, {}), f"{matched[-1]} ")
    assert to_jsgf(phrase)
