"""The journal of one job: a file with one line per event, which survives the kill of its process.

The first line is a header of fixed width with the offset up to which the broker has acknowledged. Both are
written by `pwrite` at a known offset; with O_APPEND, Linux would append the header too. The writer holds the
file's lock (`flock`) until it ends, so a journal that can be locked has no writer.
"""

import fcntl
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

SUFFIX = ".journal"
READ_BYTES = 256 * 1024  # per read
LINES_IN_MEMORY = 10_000  # while writes fail; further events are lost and counted

_MAGIC = b"antiphon-journal-1 "
_DIGITS = 20
_START = len(_MAGIC) + _DIGITS + 1


class NotAJournal(Exception):
    """The file was not written by this module."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The next lines to publish, and the offset to acknowledge afterwards."""

    lines: list[bytes]
    end: int
    from_memory: int = 0


class Journal:
    """A file of lines, and the offset up to which they are acknowledged."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.acknowledged = _START
        self.end = _START
        self.lost = 0
        self._descriptor = descriptor
        self._memory: deque[bytes] = deque()

    @classmethod
    def create(cls, path: Path) -> "Journal":
        """Create a journal; it is locked before it gets its name.

        If the file cannot be created, the journal is in memory only.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unnamed = path.with_suffix(".new")
            descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(descriptor, _header(_START), 0)
            unnamed.rename(path)
        except OSError:
            log.exception("journal.create_failed", extra={"path": str(path)})
            return cls(path, None)
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> "Journal | None":
        """Open and lock a journal without a writer; return None if it has one or is gone.

        Raises NotAJournal, OSError.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        journal = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:  # else another process has just published and removed it
                journal._resume(descriptor)
                return journal
        except BlockingIOError:
            pass
        except BaseException:
            journal.release()
            raise
        journal.release()
        return None

    def _resume(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        header = os.pread(descriptor, _START, 0)
        # a power failure can leave a part of the header, or zeros
        if not (_MAGIC.startswith(header[: len(_MAGIC)]) or not header.strip(b"\0")):
            raise NotAJournal(str(self.path))
        offset = header[len(_MAGIC) :].strip()
        self.acknowledged = max(_START, int(offset)) if offset.isdigit() else _START
        self.end = _end_of_last_line(descriptor, self.acknowledged, size)
        if self.end < size:
            log.warning("journal.torn_line_dropped", extra={"path": str(self.path), "offset": self.end})

    @property
    def drained(self) -> bool:
        """Whether every line is acknowledged."""
        return not self._memory and self.acknowledged >= self.end

    def append(self, line: bytes, settles: bytes = b"") -> None:
        """Write one line; while writes fail, hold lines in memory, in order, until they are published.

        It makes the note under the key `settles` void.
        """
        if self._memory or not self._write(line + b"\n"):
            self._hold(line)

    def note(self, key: bytes, line: bytes) -> None:
        """Write a line that is published only if this process is killed; it replaces the key's note."""

    def _write(self, data: bytes) -> bool:
        if self._descriptor is None:
            return False
        try:
            _write_all(self._descriptor, data, self.end)
        except OSError:  # a partial write is overwritten by the next line, or dropped as torn
            log.exception("journal.write_failed", extra={"path": str(self.path)})
            return False
        self.end += len(data)
        return True

    def _hold(self, line: bytes) -> None:
        if len(self._memory) >= LINES_IN_MEMORY:
            self.lost += 1
            log.error("journal.event_lost", extra={"path": str(self.path), "lost": self.lost})
            return
        self._memory.append(line)

    def next_batch(self, limit: int) -> Batch | None:
        """Return the oldest unacknowledged lines, at most `limit`; None if there are none.

        Raises OSError.
        """
        if self.acknowledged < self.end:
            return self._read(limit)
        if self._memory:
            lines = [self._memory[index] for index in range(min(limit, len(self._memory)))]
            return Batch(lines, self.acknowledged, from_memory=len(lines))
        return None

    def _read(self, limit: int) -> Batch:
        if self._descriptor is None:
            raise OSError(f"{self.path} is closed")
        unread = self.end - self.acknowledged
        size = min(READ_BYTES, unread)
        piece = os.pread(self._descriptor, size, self.acknowledged)
        while b"\n" not in piece:  # a line that is longer than one read
            if len(piece) < size or size == unread:
                raise OSError(f"{self.path} was truncated")
            size = min(2 * size, unread)
            piece = os.pread(self._descriptor, size, self.acknowledged)
        lines = piece[: piece.rindex(b"\n")].split(b"\n")[:limit]
        return Batch(lines, self.acknowledged + sum(len(line) + 1 for line in lines))

    def acknowledge(self, batch: Batch) -> None:
        """Mark a batch as stored by the broker."""
        for _ in range(batch.from_memory):
            self._memory.popleft()
        self.acknowledged = batch.end
        if self._descriptor is not None and not batch.from_memory:
            try:
                _write_all(self._descriptor, _header(batch.end), 0)
            except OSError:  # publishing a line again is harmless
                log.exception("journal.acknowledge_failed", extra={"path": str(self.path)})

    def remove(self) -> None:
        """Delete the file and release the lock."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close the file, which releases the lock, and leave it to be adopted."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def _header(offset: int) -> bytes:
    return b"%s%0*d\n" % (_MAGIC, _DIGITS, offset)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:  # a write to an almost full disk may be partial
        written = os.pwrite(descriptor, data, offset)
        data = data[written:]
        offset += written


def _end_of_last_line(descriptor: int, start: int, size: int) -> int:
    position = size
    while position > start:
        begin = max(start, position - READ_BYTES)
        newline = os.pread(descriptor, position - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        position = begin
    return start
