"""The booking flow understands the words that it promises, and no others."""

import pytest

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.understanding import Understanding, meaning, to_grammar

PROMISED = {
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


@pytest.mark.parametrize("sentence", PROMISED)
def test_a_promised_sentence_is_understood(sentence: str, booking: Flow) -> None:
    heard = Understanding(booking).read(sentence)
    assert heard is not None
    assert (heard.phrase, meaning(booking, heard.slots)) == PROMISED[sentence]


def test_capitals_and_punctuation_do_not_matter(booking: Flow) -> None:
    heard = Understanding(booking).read("Thank you,  good bye!")
    assert heard is not None
    assert heard.phrase == "goodbye"


@pytest.mark.parametrize(
    "words", ["", "(unclear)", "yes", "book a table for nine", "yes please hello", "(unclear) yes please"]
)
def test_other_words_are_not_understood(words: str, booking: Flow) -> None:
    assert Understanding(booking).read(words) is None


def test_the_grammar_has_every_phrase_and_slot(booking: Flow) -> None:
    grammar = to_grammar(booking)
    assert grammar.startswith("#JSGF V1.0;\ngrammar flow;\npublic <phrase> = (hello)")
    assert "<slot_party_size> = two | three" in grammar
