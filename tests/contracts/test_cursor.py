"""Cursors round-trip and advance; invalid text is rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.strategies import SESSION_ID, histories

from antiphon.contracts.cursor import Cursor, InvalidCursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, partition_of


@given(st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(0, 2**53)))
def test_cursor_round_trips(positions: dict[int, int]) -> None:
    assert Cursor.parse(str(Cursor(positions))) == Cursor(positions)


@given(histories())
def test_cursor_advances_to_the_last_event_and_never_back(envelopes: list[Envelope]) -> None:
    cursor = Cursor().advanced(envelopes)

    assert cursor.after(partition_of(SESSION_ID)) == len(envelopes)
    assert cursor.advanced(envelopes[:1]) == cursor


@pytest.mark.parametrize("text", ["!", "e30x", "WzFd", "eyI5OSI6MX0", "eyIxIjotMX0", "ä"])
def test_invalid_text_raises(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)
