"""The journal of one job: a file of events, one line of JSON each, that outlives its process.

The first line is the offset up to which the broker has acknowledged. The writer holds the file's lock for as
long as it lives, so a journal that can be locked has lost its writer.
"""

import fcntl
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

SUFFIX = ".journal"
READ_BYTES = 256 * 1024  # at once into memory, however long the journal has become
LINES_IN_MEMORY = 10_000  # kept when the disk refuses; beyond it events are lost, and counted

_DIGITS = 20
_START = _DIGITS + 1
_NO_FILE = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold the next lines to publish, and what to note once they are."""

    lines: list[bytes]
    end: int
    from_memory: int = 0


class Journal:
    """Append lines, read them back in order, and remember how many are done with."""

    def __init__(self, path: Path, descriptor: int, acknowledged: int, end: int) -> None:
        self.path = path
        self.acknowledged = acknowledged
        self.end = end
        self.lost = 0
        self._descriptor = descriptor
        self._memory: deque[bytes] = deque()

    @classmethod
    def create(cls, path: Path) -> "Journal":
        """Make a new journal, locked from the first moment that anybody can see it.

        Without a disk that takes it, the journal is in memory only: a call goes on.
        """
        descriptor = _NO_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unseen = path.with_suffix(".new")
            descriptor = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, _header(_START), 0)
            unseen.rename(path)
        except OSError:
            log.exception("journal.not_made", path=str(path))
        return cls(path, descriptor, _START, _START)

    @classmethod
    def adopt(cls, path: Path) -> "Journal | None":
        """Open a journal whose writer is gone; None when it lives, or when the file is no more."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        header = os.pread(descriptor, _START, 0).strip()
        acknowledged = int(header) if header.isdigit() else _START
        return cls(path, descriptor, acknowledged, os.fstat(descriptor).st_size)

    @property
    def drained(self) -> bool:
        """Whether every line has been acknowledged."""
        return not self._memory and self.acknowledged >= self.end

    def append(self, line: bytes) -> None:
        """Write one line. What the disk refuses is held in memory, in its order, until it is published."""
        if not self._memory and self._descriptor != _NO_FILE:
            try:
                written = os.pwrite(self._descriptor, line + b"\n", self.end)
            except OSError:
                log.exception("journal.unwritable", path=str(self.path))
            else:
                if written == len(line) + 1:
                    self.end += written
                    return
                log.error("journal.torn_write", path=str(self.path))
        self._remember(line)

    def _remember(self, line: bytes) -> None:
        if len(self._memory) >= LINES_IN_MEMORY:
            self.lost += 1
            log.error("journal.event_lost", path=str(self.path), lost=self.lost)
            return
        self._memory.append(line)

    def next_batch(self, limit: int) -> Batch | None:
        """Return the oldest lines that are not acknowledged, at most `limit`; None when there are none.

        A last line without its end was torn by a crash: it was never written, and is passed over.
        """
        if self.acknowledged < self.end:
            batch = self._read(limit)
            if batch.lines:
                return batch
            log.warning("journal.torn_line_dropped", path=str(self.path), at=self.acknowledged)
            self.end = self.acknowledged
        if self._memory:
            lines = [self._memory[index] for index in range(min(limit, len(self._memory)))]
            return Batch(lines, self.acknowledged, from_memory=len(lines))
        return None

    def _read(self, limit: int) -> Batch:
        size = READ_BYTES
        while True:
            chunk = os.pread(self._descriptor, min(size, self.end - self.acknowledged), self.acknowledged)
            lines = chunk.split(b"\n")[:-1][:limit]
            if lines or len(chunk) < size:
                return Batch(lines, self.acknowledged + sum(len(line) + 1 for line in lines))
            size *= 2  # one line longer than what was read

    def acknowledge(self, batch: Batch) -> None:
        """Note that the broker has stored a batch."""
        for _ in range(batch.from_memory):
            self._memory.popleft()
        self.acknowledged = batch.end
        if not batch.from_memory:
            os.pwrite(self._descriptor, _header(batch.end), 0)

    def remove(self) -> None:
        """Delete the file: everything in it is where it belongs."""
        if self._descriptor != _NO_FILE:
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close the file and give up its lock, leaving it for whoever comes next."""
        if self._descriptor != _NO_FILE:
            os.close(self._descriptor)


def _header(offset: int) -> bytes:
    return f"{offset:0{_DIGITS}d}\n".encode()
