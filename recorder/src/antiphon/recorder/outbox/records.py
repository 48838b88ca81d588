"""The records of a journal: each has a marker, its length and a checksum, so that damage stays local."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

EVENT = b"E"  # to be published; its key is that of the note that it settles, if any
NOTE = b"N"  # to be published by another process, unless a later record has its key
VOID = b"V"  # settles a note
KINDS = (EVENT, NOTE, VOID)

PIECE_BYTES = 256 * 1024  # per read
LARGEST_BYTES = 32 * 1024 * 1024  # of a record; the broker's own limit for a message is 1 MiB by default

_MARKER = b"\n\xffAJ"  # 0xff is in no UTF-8 text, so a payload cannot contain it
_HEAD = struct.Struct("<4scHII")  # marker, kind, size of the key, size of key and payload, checksum
_pack = _HEAD.pack


@dataclass(frozen=True, slots=True)
class Record:
    """A valid record and its place in the file."""

    kind: bytes
    key: bytes
    payload: bytes
    start: int
    end: int


def frame(kind: bytes, payload: bytes, key: bytes = b"") -> bytes:
    """Return the bytes of a record.

    Raises ValueError when it is too large.
    """
    body = key + payload if key else payload
    size = len(body)
    if size > LARGEST_BYTES or len(key) > 0xFFFF:
        raise ValueError(f"a record of {size} bytes; the limit is {LARGEST_BYTES}, and 65,535 for its key")
    checksum = crc32(body, size ^ len(key) << 8 ^ kind[0] << 24)  # of the head's fields too
    return _pack(_MARKER, kind, len(key), size, checksum) + body


def read_records(descriptor: int, start: int, end: int) -> Iterator[Record]:
    """Yield the valid records between two offsets, in order; what is between them is damaged.

    Raises OSError, also when the file ends before `end`.
    """
    window = _Window(descriptor, end)
    offset: int | None = start
    while offset is not None:
        record = _record_at(window, offset)
        if record is None:
            offset = window.find(_MARKER, offset + 1)
        else:
            yield record
            offset = record.end


def is_torn(descriptor: int, start: int, end: int) -> bool:
    """Return whether the end of a file is a record whose write was cut off, or zeros."""
    tail = os.pread(descriptor, min(PIECE_BYTES, end - start), start)
    if len(tail) == end - start and not tail.strip(b"\0"):
        return True
    if len(tail) < _HEAD.size:
        return tail[: len(_MARKER)] == _MARKER[: len(tail)]
    marker, kind, key_size, size, _ = _HEAD.unpack_from(tail)
    is_head = marker == _MARKER and kind in KINDS and key_size <= size <= LARGEST_BYTES
    return is_head and end - start < _HEAD.size + size


def _record_at(window: "_Window", offset: int) -> Record | None:
    if offset + _HEAD.size > window.end:
        return None
    marker, kind, key_size, size, checksum = _HEAD.unpack(window.read(offset, _HEAD.size))
    body_start = offset + _HEAD.size
    end = body_start + size
    if marker != _MARKER or key_size > size or size > LARGEST_BYTES or end > window.end:
        return None
    body = window.read(body_start, size)
    if crc32(body, size ^ key_size << 8 ^ kind[0] << 24) != checksum:
        return None
    return Record(kind, body[:key_size], body[key_size:], offset, end)


class _Window:
    """A file up to `end`, of which one piece is in memory."""

    def __init__(self, descriptor: int, end: int) -> None:
        self.end = end
        self._descriptor = descriptor
        self._start = 0
        self._piece = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at an offset; both are within the file."""
        first = offset - self._start
        if first < 0 or first + size > len(self._piece):
            self._load(offset, size)
            first = 0
        return self._piece[first : first + size]

    def find(self, wanted: bytes, offset: int) -> int | None:
        """Return the next place of some bytes at or after an offset."""
        while offset + len(wanted) <= self.end:
            if not self._start <= offset <= self._start + len(self._piece) - len(wanted):
                self._load(offset, len(wanted))
            found = self._piece.find(wanted, offset - self._start)
            if found >= 0:
                return self._start + found
            offset = self._start + len(self._piece) - len(wanted) + 1
        return None

    def _load(self, offset: int, size: int) -> None:
        wanted = min(max(size, PIECE_BYTES), self.end - offset)
        self._piece = b""  # not two pieces at a time
        self._piece = os.pread(self._descriptor, wanted, offset)
        self._start = offset
        if len(self._piece) < size:
            raise OSError(f"the file was truncated: it has {len(self._piece)} bytes at {offset}")
