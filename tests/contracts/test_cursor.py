"""Cursors round-trip and advance; text that is corrupt, foreign, of a later version or impossible is not."""

import base64
import urllib.parse
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.strategies import SESSION_ID, histories

from antiphon.contracts.cursor import LARGEST_POSITION, MAX_TEXT, Cursor, InvalidCursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, partition_of


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


LOG = "0123abcd"
CURSORS = st.builds(Cursor, st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(0, LARGEST_POSITION)))


@given(CURSORS)
def test_cursor_round_trips(cursor: Cursor) -> None:
    text = cursor.encode(LOG)

    assert Cursor.parse(text, LOG) == cursor
    assert len(text) <= MAX_TEXT
    assert urllib.parse.quote(text, safe="") == text


@given(CURSORS, st.data())
def test_a_flipped_bit_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = cursor.encode(LOG)
    raw = bytearray(text, "ascii")
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(InvalidCursor, match="is not a cursor, or it was changed"):
        Cursor.parse(raw.decode("latin-1"), LOG)


@given(CURSORS, st.data())
def test_a_flipped_bit_of_the_bytes_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    raw = bytearray(_raw(cursor.encode(LOG)))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(InvalidCursor, match="is not a cursor, or it was changed"):
        Cursor.parse(_text(bytes(raw)), LOG)


@given(CURSORS, st.data())
def test_a_part_of_a_cursor_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = cursor.encode(LOG)

    with pytest.raises(InvalidCursor):
        Cursor.parse(text[: data.draw(st.integers(0, len(text) - 1))], LOG)


@given(st.text() | st.binary().map(_text))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text, LOG)


@given(st.binary(max_size=40), st.integers(0, 255))
def test_bytes_with_a_true_checksum_are_a_cursor_or_refused(raw: bytes, version: int) -> None:
    text = _text(_sealed(bytes((version,)) + _raw(Cursor().encode(LOG))[1:5] + raw))
    try:
        cursor = Cursor.parse(text, LOG)
    except InvalidCursor:
        return
    assert all(0 <= p < PARTITIONS and 0 <= n <= LARGEST_POSITION for p, n in cursor.positions.items())
    assert Cursor.parse(cursor.encode(LOG), LOG) == cursor


def test_the_text_is_short() -> None:
    """An id of a line of a feed: as long as a URL can bear it."""
    assert len(Cursor({p: 5_000_000 + 97 * p for p in range(PARTITIONS)}).encode(LOG)) <= 64


def test_a_cursor_of_another_log_is_refused() -> None:
    with pytest.raises(InvalidCursor, match="the log of another deployment"):
        Cursor.parse(Cursor({3: 7}).encode("ffffffff"), LOG)


def test_a_cursor_of_a_later_version_is_refused() -> None:
    later = _sealed(b"\x02" + b"what this version does not know")

    with pytest.raises(InvalidCursor, match="version 2, and this service reads version 1"):
        Cursor.parse(_text(later), LOG)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (b"\x01\x00" + b"\x00", "other partitions"),  # no position for the partition that it has
        (b"\x01\x00" + b"\x00\x01\x01", "other partitions"),  # one too many
        (b"\x01\x00" + b"\x00\x81", "half of a number"),
        (b"\x01\x00" + b"\xff" * 9 + b"\x01\x00", "no log reaches"),
    ],
)
def test_impossible_positions_are_refused(numbers: bytes, message: str) -> None:
    head = _raw(Cursor().encode(LOG))[:5]

    with pytest.raises(InvalidCursor, match=message):
        Cursor.parse(_text(_sealed(head + numbers)), LOG)


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sealed(raw: bytes) -> bytes:
    return raw + zlib.crc32(raw).to_bytes(4, "big")


@given(histories())
def test_cursor_advances_to_the_last_event_and_never_back(envelopes: list[Envelope]) -> None:
    cursor = Cursor().advanced(envelopes)

    assert cursor.after(partition_of(SESSION_ID)) == len(envelopes)
    assert cursor.advanced(envelopes[:1]) == cursor


@pytest.mark.parametrize("text", ["!", "e30x", "WzFd", "eyI5OSI6MX0", "eyIxIjotMX0", "ä", "", "A" * 600])
def test_invalid_text_raises(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text, LOG)
