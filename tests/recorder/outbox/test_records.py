"""Damage to a journal stays local: what is readable is read, and nothing else is."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.recorder.outbox import Journal, NotAJournal, records
from antiphon.recorder.outbox.journal_file import START
from antiphon.recorder.outbox.records import EVENT, NOTE, VOID, Record, frame, read_records

json_text = st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
written = st.lists(
    st.one_of(
        st.tuples(st.just(EVENT), json_text, st.one_of(st.just(b""), st.binary(min_size=1, max_size=9))),
        st.tuples(st.just(NOTE), json_text, st.binary(min_size=1, max_size=9)),
        st.tuples(st.just(VOID), st.just(b""), st.binary(min_size=1, max_size=9)),
    ),
    max_size=12,
)


@contextmanager
def a_file(content: bytes) -> Iterator[tuple[int, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "AJ_1.journal"
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        yield descriptor, path
        os.close(descriptor)


def read_all(content: bytes) -> list[Record]:
    with a_file(content) as (descriptor, _):
        return list(read_records(descriptor, 0, len(content)))


def damaged(content: bytes, flips: list[int], keep: int) -> tuple[bytes, set[int]]:
    """Return the content cut to `keep` bytes with some bits inverted, and the damaged places."""
    changed = bytearray(content[:keep])
    places = set(range(keep, len(content)))
    for flip in flips:
        place, bit = divmod(flip, 8)
        if place < len(changed):
            changed[place] ^= 1 << bit
            places.add(place)
    # two flips of one bit are none
    return bytes(changed), {p for p in places if p >= keep or changed[p] != content[p]}


@given(written)
def test_records_are_read_as_they_were_written(rows: list[tuple[bytes, bytes, bytes]]) -> None:
    content = b"".join(frame(*row) for row in rows)

    assert [(r.kind, r.payload, r.key) for r in read_all(content)] == rows


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_records_give_none(content: bytes) -> None:
    assert read_all(content) == []


@given(st.data(), written)
def test_undamaged_records_are_read_and_damaged_ones_are_not(
    data: st.DataObject, rows: list[tuple[bytes, bytes, bytes]]
) -> None:
    frames = [frame(*row) for row in rows]
    content = b"".join(frames)
    flips = data.draw(st.lists(st.integers(0, max(0, 8 * len(content) - 1)), max_size=6))
    keep = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    changed, places = damaged(content, flips, keep)
    start, intact = 0, []
    for row, framed in zip(rows, frames, strict=True):
        if not places.intersection(range(start, start + len(framed))):
            intact.append((start, row))
        start += len(framed)

    assert [(r.start, (r.kind, r.payload, r.key)) for r in read_all(changed)] == intact


@given(st.data(), st.lists(json_text.filter(bool), min_size=1, max_size=10))
def test_journal_with_any_damage_publishes_what_is_intact(data: st.DataObject, lines: list[bytes]) -> None:
    """Bit flips and a cut anywhere, in the header too: never an error, no intact event is lost."""
    content, ends = a_journal_of(lines)
    flips = data.draw(st.lists(st.integers(0, 8 * len(content) - 1), max_size=5))
    keep = data.draw(st.one_of(st.just(len(content)), st.integers(START, len(content))))
    changed, places = damaged(content, flips, keep)
    starts = [START, *ends[:-1]]
    intact = [
        line
        for line, start, end in zip(lines, starts, ends, strict=True)
        if not places.intersection(range(start, end))
    ]
    with a_file(changed) as (_, path):
        try:
            journal = Journal.adopt(path)
        except NotAJournal:
            assert intact == []
            assert path.read_bytes() == changed
            return
        assert journal is not None
        for _ in journal.scan():
            pass
        published = []
        while batch := journal.next_batch(3):
            published += batch.lines
            journal.acknowledge(batch)
        assert published == intact
        in_the_middle = any(place < (ends[lines.index(intact[-1])] if intact else 0) for place in places)
        assert journal.remove()
        kept = [file.suffix for file in path.parent.iterdir()]
        if in_the_middle and len(intact) < len(lines):
            assert kept == [".damaged"]


def a_journal_of(lines: list[bytes]) -> tuple[bytes, list[int]]:
    """Return the bytes of a journal and the end of each record."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder) / "AJ_1.journal")
        ends = []
        for line in lines:
            journal.append(line)
            ends.append(journal.end)
        journal.release()
        return journal.path.read_bytes(), ends


def test_marker_of_a_record_does_not_occur_in_its_text() -> None:
    text = "\n\u00ffAJ" + "".join(map(chr, range(1, 0xD800)))
    assert records._MARKER not in text.encode()


def test_record_longer_than_a_piece_is_found_after_damage() -> None:
    long = b"x" * (2 * records.PIECE_BYTES)
    content = b"\0" * (records.PIECE_BYTES - 2) + frame(EVENT, long) + b"?" + frame(EVENT, b"next")

    assert [record.payload for record in read_all(content)] == [long, b"next"]


def test_record_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="the limit is"):
        frame(EVENT, b"x" * (records.LARGEST_BYTES + 1))


def test_file_that_is_cut_while_it_is_read_raises() -> None:
    content = frame(EVENT, b"event")
    with a_file(content) as (descriptor, path):
        os.truncate(path, 9)
        with pytest.raises(OSError, match="truncated"):
            list(read_records(descriptor, 0, len(content)))
