from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.agent_worker.conversation.differences import matches

WORDS = st.text("ab .?(*", max_size=12)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (["Hello."], ["Hello."]),
        (["Hello.", "How are you?"], ["Hello. How are you?"]),
        (["Hello *"], ["Hello.", "Again."]),
        (["Hello * bye"], ["Hello dear\nguest, bye"]),
        (["Hello * bye"], ["Hello bye"]),
        (["*"], []),
        (["  a   b "], ["a b"]),
    ],
)
def test_texts_match(expected: Sequence[str], said: Sequence[str]) -> None:
    assert matches(expected, said)


@pytest.mark.parametrize(
    ("expected", "said"),
    [(["Hello."], []), (["Hello."], ["hello."]), (["Hello"], ["Hello."]), (["a*b"], ["b a"])],
)
def test_texts_do_not_match(expected: Sequence[str], said: Sequence[str]) -> None:
    assert not matches(expected, said)


@given(st.lists(WORDS, max_size=3))
def test_a_text_without_a_star_matches_itself_only(said: list[str]) -> None:
    expected = [text.replace("*", "") for text in said]

    assert matches(expected, expected)
    assert not matches(expected, [*expected, "c"])


@given(WORDS, WORDS, WORDS)
def test_a_star_stands_for_any_words(before: str, between: str, after: str) -> None:
    first, last = before.replace("*", ""), after.replace("*", "")

    assert matches([f"{first} * {last}"], [first, between, last])
