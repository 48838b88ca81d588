"""The journal of one job: a file of events, one line of JSON each, that outlives its process.

It is written through a memory map: a line costs a copy and no call of the system, and what was copied is the
kernel's, so that it survives the process that is killed. The first line is the offset up to which the broker
has acknowledged; room not yet used is zeros. The writer holds the file's lock for as long as it lives, so a
journal that can be locked has lost its writer.
"""

import fcntl
import mmap
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

SUFFIX = ".journal"
ROOM_BYTES = 256 * 1024  # the file grows by this much, reserved on the disk: a full disk is told then
AHEAD_PAGES = 4  # made ready by `prepare`; the kernel takes pages back that lie ready for long
READ_BYTES = 256 * 1024  # at once into memory, however long the journal has become
LINES_IN_MEMORY = 10_000  # kept when the disk refuses; beyond it events are lost, and counted

_DIGITS = 20
_START = _DIGITS + 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold the next lines to publish, and what to note once they are."""

    lines: list[bytes]
    end: int
    from_memory: int = 0


class Journal:
    """Append lines, read them back in order, and remember how many are done with."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.acknowledged = _START
        self.end = _START
        self.lost = 0
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._room = 0
        self._ready = 0  # up to here, pages are there to be written
        self._memory: deque[bytes] = deque()

    @classmethod
    def create(cls, path: Path) -> "Journal":
        """Make a new journal, locked from the first moment that anybody can see it.

        Without a disk that takes it, the journal is in memory only: a call goes on.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unseen = path.with_suffix(".new")
            descriptor = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, _header(_START), 0)
            unseen.rename(path)
        except OSError:
            log.exception("journal.not_made", path=str(path))
            return cls(path, None)
        return cls(path, descriptor)

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
        journal = cls(path, descriptor)
        journal._resume()
        return journal

    def _resume(self) -> None:
        assert self._descriptor is not None
        self._room = os.fstat(self._descriptor).st_size
        if self._room <= _START:
            return
        self._map = mmap.mmap(self._descriptor, self._room)
        header = self._map[:_START].strip()
        self.acknowledged = int(header) if header.isdigit() else _START
        written = self._map.find(b"\0", self.acknowledged)
        whole = self._map.rfind(b"\n", self.acknowledged, written if written >= 0 else self._room)
        self.end = max(self.acknowledged, whole + 1)
        if self._map[self.end : self.end + 1] not in (b"", b"\0"):
            log.warning("journal.torn_line_dropped", path=str(self.path), at=self.end)

    @property
    def drained(self) -> bool:
        """Whether every line has been acknowledged."""
        return not self._memory and self.acknowledged >= self.end

    def append(self, line: bytes) -> None:
        """Write one line. What the disk refuses is held in memory, in its order, until it is published."""
        after = self.end + len(line) + 1
        if self._memory or (after > self._room and not self._grow(after)):
            self._remember(line)
            return
        assert self._map is not None
        self._map[self.end : after] = line + b"\n"
        self.end = after

    def prepare(self) -> None:
        """Make the next pages ready, so that `append` need not wait for the kernel to find them."""
        ahead = self.end + AHEAD_PAGES * mmap.PAGESIZE
        if self._memory or (ahead > self._room and not self._grow(ahead)):
            return
        assert self._map is not None
        page = max(self._ready, -(-self.end // mmap.PAGESIZE) * mmap.PAGESIZE)
        while page < ahead:
            self._map[page] = 0  # nothing is written there yet
            page += mmap.PAGESIZE
        self._ready = page

    def _grow(self, needed: int) -> bool:
        if self._descriptor is None:
            return False
        room = self._room + ROOM_BYTES * (1 + (needed - self._room) // ROOM_BYTES)
        try:
            os.posix_fallocate(self._descriptor, 0, room)
            if self._map is None:
                self._map = mmap.mmap(self._descriptor, room)
            else:
                self._map.resize(room)
        except OSError:
            log.exception("journal.unwritable", path=str(self.path))
            return False
        self._room = room
        return True

    def _remember(self, line: bytes) -> None:
        if len(self._memory) >= LINES_IN_MEMORY:
            self.lost += 1
            log.error("journal.event_lost", path=str(self.path), lost=self.lost)
            return
        self._memory.append(line)

    def next_batch(self, limit: int) -> Batch | None:
        """Return the oldest lines that are not acknowledged, at most `limit`; None when there are none."""
        if self.acknowledged < self.end:
            return self._read(limit)
        if self._memory:
            lines = [self._memory[index] for index in range(min(limit, len(self._memory)))]
            return Batch(lines, self.acknowledged, from_memory=len(lines))
        return None

    def _read(self, limit: int) -> Batch:
        assert self._map is not None
        until = min(self.end, self.acknowledged + READ_BYTES)
        last = self._map.rfind(b"\n", self.acknowledged, until)
        if last < 0:  # one line longer than what is read at once
            last = self._map.find(b"\n", until)
        lines = self._map[self.acknowledged : last].split(b"\n")[:limit]
        return Batch(lines, self.acknowledged + sum(len(line) + 1 for line in lines))

    def acknowledge(self, batch: Batch) -> None:
        """Note that the broker has stored a batch."""
        for _ in range(batch.from_memory):
            self._memory.popleft()
        self.acknowledged = batch.end
        if self._descriptor is not None and not batch.from_memory:
            try:  # by a call of the system: a copy can be cut in two by a kill, and a number must not
                os.pwrite(self._descriptor, _header(batch.end), 0)
            except OSError:  # what is published again does no harm
                log.exception("journal.not_noted", path=str(self.path))

    def remove(self) -> None:
        """Delete the file: everything in it is where it belongs."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close the file and give up its lock, leaving it for whoever comes next."""
        if self._map is not None:
            self._map.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._map = self._descriptor = None
        self._room = self._ready = 0


def _header(offset: int) -> bytes:
    return f"{offset:0{_DIGITS}d}\n".encode()
