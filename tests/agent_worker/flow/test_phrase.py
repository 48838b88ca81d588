"""A phrase has two readings, and they agree."""

import re

import pytest

from antiphon.agent_worker.flow.phrase import InvalidPhrase, parse_phrase, sentences, to_jsgf, to_regex

VALUES = {"size": ["two", "half past two"], "day": ["today"]}


def test_a_phrase_becomes_a_grammar_rule() -> None:
    phrase = parse_phrase("[i would like to] book (a table | tables) for {size}")
    assert to_jsgf(phrase) == "([(i would like to)] book (a table | tables) for <slot_size>)"


def test_a_phrase_lists_every_sentence_that_it_can_be() -> None:
    spoken = list(sentences(parse_phrase("[please] (a | the) table {day}"), VALUES))
    assert sorted(spoken) == [
        "a table today",
        "please a table today",
        "please the table today",
        "the table today",
    ]


@pytest.mark.parametrize("text", ["[so] (one | two more) {size} {day}", "{size}", "a | b c | [d] e"])
def test_every_sentence_of_a_phrase_is_read_as_that_phrase(text: str) -> None:
    phrase = parse_phrase(text)
    pattern = re.compile(to_regex(phrase, VALUES))
    assert all(pattern.fullmatch(f"{sentence} ") for sentence in sentences(phrase, VALUES))


def test_the_longest_value_fills_a_slot() -> None:
    match = re.fullmatch(to_regex(parse_phrase("at {size}"), VALUES), "at half past two ")
    assert match is not None
    assert match["size"] == "half past two"


@pytest.mark.parametrize(
    "text", ["", "[a", "a]", "(a", "a |", "()", "[a] [b]", "Capital", "{two words}", "{a} {a}", "a(b]"]
)
def test_what_is_not_a_phrase_is_refused(text: str) -> None:
    with pytest.raises(InvalidPhrase):
        parse_phrase(text)
