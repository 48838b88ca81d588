"""The journal of one job: its events and notes in a file, which survives the kill of its process."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from antiphon.chassis.library_log import get_logger
from antiphon.recorder import metrics
from antiphon.recorder.outbox.held import Held
from antiphon.recorder.outbox.journal_file import START, JournalFile
from antiphon.recorder.outbox.records import (
    EVENT,
    NOTE,
    PIECE_BYTES,
    VOID,
    Record,
    frame,
    is_torn,
    read_records,
)

log = get_logger(__name__)

SHRINK_BYTES = 4 * 1024 * 1024  # of acknowledged records, before the file is rewritten without them
UNREAD_BYTES = 1024 * 1024  # more of them are not copied
UNSETTLED = 10_000  # keys


@dataclass(frozen=True, slots=True)
class Batch:
    """The next events to publish, perhaps none, and the offset to acknowledge afterwards."""

    lines: list[bytes]
    end: int
    from_memory: int = 0


class Journal:
    """A file of records, and the offset up to which they are acknowledged.

    Offsets count from the beginning of the first file, also after the file was rewritten. Without a file,
    the journal is in memory only.
    """

    def __init__(self, path: Path, file: JournalFile | None) -> None:
        self.path = file.path if file else path
        self.number = file.number if file else 1  # among the journals of its job
        self.acknowledged = START
        self.end = START
        self.lost = 0  # events
        self.appended = 0  # events, of this process
        self.damage: dict[int, int] = {}  # unreadable bytes by their offset
        self._file = file
        self._held = Held()
        self._closed = False
        self._failing = False
        self._unsettled: dict[bytes, None] = {}  # the keys of void notes that the file does not show as void
        self._cut = 0  # bytes that are no longer in the file
        self._shrink_at = SHRINK_BYTES

    @classmethod
    def create(cls, path: Path) -> "Journal":
        """Create a journal; while another one has its name, under another name."""
        try:
            return cls(path, JournalFile.create(path))
        except OSError:
            log.exception("journal.create_failed", extra={"path": str(path)})
        return cls(path, None)

    @classmethod
    def adopt(cls, path: Path) -> "Journal | None":
        """Open and lock a journal without a writer; return None if it has one or is gone.

        Raises NotAJournal, OSError.
        """
        file = JournalFile.adopt(path)
        if file is None:
            return None
        journal = cls(path, file)
        try:
            acknowledged = file.acknowledged()
            journal.end = max(START, file.size)
        except BaseException:
            journal.release()
            raise
        if acknowledged is None:
            journal._note_damage(0, START)
        else:  # a power failure can lose records that were published
            journal.acknowledged = min(max(START, acknowledged), journal.end)
        return journal

    def scan(self) -> Iterator[Record]:
        """Yield every record of an adopted journal; after the last one, its damage and its end are known.

        Raises OSError.
        """
        descriptor, offset = self._open_file().descriptor, START
        for record in read_records(descriptor, START, self.end):
            self._note_damage(offset, record.start)
            offset = record.end
            yield record
        offset = max(offset, self.acknowledged)
        if offset < self.end:
            if is_torn(descriptor, offset, self.end):
                log.warning("journal.torn_record_dropped", extra={"path": str(self.path), "offset": offset})
            else:
                self._note_damage(offset, self.end)
            self.end = offset

    def _note_damage(self, start: int, end: int) -> None:
        if start < end:
            self.damage[start] = end - start

    @property
    def drained(self) -> bool:
        """Whether every event is acknowledged."""
        return not self._held and self.acknowledged >= self.end

    @property
    def bytes_held(self) -> int:
        """The size of the file, and of what is held in memory."""
        return self.end - self._cut + self._held.size

    @property
    def has_waste(self) -> bool:
        """Whether `shrink` is worth its time now."""
        return (
            self.acknowledged - self._cut > self._shrink_at
            and self.end - self.acknowledged < UNREAD_BYTES
            and not self._held
            and not self.damage
        )

    def append(self, event: bytes, settles: bytes = b"") -> None:
        """Write an event, which makes the note under the key `settles` void.

        While writes fail, events are held in memory, in order, until they are published. Raises ValueError
        for an event that is too large.
        """
        data = frame(EVENT, event, settles)
        if self._held.size or not self._write(data):
            self._hold(event, settles)
        else:
            self.appended += 1

    def note(self, key: bytes, event: bytes) -> None:
        """Write an event that only a process that adopts the journal publishes.

        It replaces the note under the same key. Raises ValueError for an event that is too large.
        """
        self._write(frame(NOTE, event, key))

    def _write(self, data: bytes) -> bool:
        file, offset = self._file, self.end - self._cut
        if file is None:
            return False
        if self._unsettled:
            data = b"".join(frame(VOID, b"", key) for key in self._unsettled) + data
        try:
            # few calls: this delays the voice loop
            if os.pwrite(file.descriptor, data, offset) < len(data):  # as on an almost full disk
                file.write(data, offset)
        except OSError:
            file.cut(offset)
            if not self._failing:  # the next failures are probably the same
                log.exception("journal.write_failed", extra={"path": str(self.path)})
            self._failing = True
            return False
        self.end += len(data)
        self._failing = False
        self._unsettled.clear()
        return True

    def _settle(self, keys: list[bytes]) -> None:
        """Make notes void; while writes fail, before the next record that can be written."""
        if self._file is None:  # so there are no notes
            return
        self._unsettled |= dict.fromkeys(keys)
        self._write(b"")
        while len(self._unsettled) > UNSETTLED:
            del self._unsettled[next(iter(self._unsettled))]

    def _hold(self, event: bytes, settles: bytes) -> None:
        if not self._closed and self._held.add(event, settles):
            self.appended += 1
        else:
            self.lost += 1
            metrics.events.add(1, "lost")
            log.error("journal.event_lost", extra={"path": str(self.path), "lost": self.lost})

    def next_batch(self, limit: int) -> Batch | None:
        """Return the oldest unacknowledged events, at most `limit`; None if everything is acknowledged.

        Raises OSError.
        """
        if self.acknowledged < self.end:
            return self._read(limit)
        if self._held:
            lines = self._held.first(limit, PIECE_BYTES)
            return Batch(lines, self.acknowledged, from_memory=len(lines))
        return None

    def _read(self, limit: int) -> Batch:
        lines: list[bytes] = []
        start = offset = self.acknowledged - self._cut
        end = self.end - self._cut
        for record in read_records(self._open_file().descriptor, start, end):
            if record.end - start > PIECE_BYTES and offset > start:
                break
            self._note_damage(offset, record.start)
            offset = record.end
            if record.kind == EVENT:
                lines.append(record.payload)
                if len(lines) == limit:
                    break
        else:
            self._note_damage(offset, end)
            offset = end
        return Batch(lines, offset + self._cut)

    def _open_file(self) -> JournalFile:
        if self._file is None:
            raise OSError(f"{self.path} is closed")
        return self._file

    def acknowledge(self, batch: Batch) -> None:
        """Mark a batch as stored by the broker."""
        if batch.from_memory:
            if settled := self._held.remove(batch.from_memory):
                self._settle(settled)
            return
        self.acknowledged = batch.end
        if self._file is not None:
            try:
                self._file.acknowledge(batch.end - self._cut)
            except OSError:  # publishing an event again is harmless
                log.exception("journal.acknowledge_failed", extra={"path": str(self.path)})

    def shrink(self, notes: Iterable[tuple[bytes, bytes]]) -> None:
        """Rewrite the file without the acknowledged records; `notes` are the keys and events to keep."""
        unread = self.end - self.acknowledged
        try:
            file = self._open_file()
            copied = os.pread(file.descriptor, unread, self.acknowledged - self._cut)
            kept = b"".join(frame(NOTE, event, key) for key, event in notes)
            file.replace([copied, kept])
        except OSError:
            self._shrink_at *= 2
            log.exception("journal.shrink_failed", extra={"path": str(self.path)})
        else:
            self._cut = self.acknowledged - START
            self.end += len(kept)

    def remove(self) -> bool:
        """Delete the file and release the lock; a damaged file gets another name instead.

        Returns False if that failed; the file is left to be adopted again.
        """
        removed = True
        if self._file is not None:
            try:
                if self.damage:
                    extra = {"parts": len(self.damage), "bytes": sum(self.damage.values())}
                    log.error("journal.damaged", extra=extra | {"kept": str(self._file.set_aside())})
                else:
                    self.path.unlink(missing_ok=True)
            except OSError:
                removed = False
                log.exception("journal.remove_failed", extra={"path": str(self.path)})
        self.release()
        return removed

    def release(self) -> None:
        """Close the file, which releases the lock, and leave it to be adopted.

        What is written afterwards is lost.
        """
        while self._held and self._write(frame(EVENT, *self._held.oldest())):
            self._held.remove(1)
        if self._unsettled:
            self._write(b"")
        if self._held:
            self.lost += len(self._held)
            metrics.events.add(len(self._held), "lost")
            extra = {"path": str(self.path), "events": len(self._held), "bytes": self._held.size}
            log.error("journal.held_events_lost", extra=extra)
            self._held.clear()
        self._closed = True
        if self._file is not None:
            self._file.close()
        self._file = None
