"""The outbox of one job: events are written to its journal at once, and a pump publishes them in order."""

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import seal_encoded
from antiphon.contracts.event import Event
from antiphon.contracts.ids import agent_event_id, agent_note_id
from antiphon.recorder import metrics
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import Journal
from antiphon.recorder.outbox.journal_file import SUFFIX
from antiphon.recorder.outbox.large_events import cut, fits
from antiphon.recorder.outbox.pump import Pump

log = get_logger(__name__)

PRODUCER = "agent"
LIVE_NOTES = 64  # per session


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class WriteEvent(Protocol):
    """A function that writes an event at once."""

    def __call__(self, event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        """Write an event; `at` is when it occurred, in unix seconds, by default now.

        The note under the key `settles` is void from now on.
        """


class WriteNote(Protocol):
    """A function that writes a note at once."""

    def __call__(self, key: str, event: Event, *, at: float | None = None) -> None:
        """Write an event that is published only if this process is killed; it replaces the key's note."""


class Outbox:
    """A durable queue of the events of a job, of one or several sessions; writing never waits.

    A job has one outbox for its whole life: a second one has a journal of its own, and ids of its own.
    """

    def __init__(
        self, journal_dir: Path, link: BusLink, *, job_id: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.job_id = job_id
        self._now = now
        self._writers: dict[str, SessionWriter] = {}
        self._journal = Journal.create(journal_dir / f"{file_name(job_id)}{SUFFIX}")
        self._pump = Pump(self._journal, link, on_acknowledged=self._shrink)
        self._unwatch = metrics.watch(self._pump)
        self._pumping: BackgroundTask | None = None
        self._closing: asyncio.Task[bool] | None = None

    def start(self) -> None:
        """Start publishing, on the running loop; calls after the first do nothing."""
        if self._pumping is None:
            self._pumping = BackgroundTask(self._pump.run, name="outbox-pump")

    def writer(self, session_id: str, tenant: str) -> "SessionWriter":
        """Return the session's writer, the same one for every call."""
        writer = self._writers.get(session_id)
        if writer is None:
            number = self._journal.number
            epoch = self.job_id if number == 1 else f"{self.job_id}~{number}"
            writer = SessionWriter(self._journal, self._pump, session_id, tenant, epoch, self._now)
            self._writers[session_id] = writer
        return writer

    @property
    def intact(self) -> bool:
        """Whether no event was refused by the broker, damaged on the disk, or lost."""
        return not self._pump.refused and not self._journal.lost and not self._journal.damage

    async def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything written is acknowledged; return False on timeout, or once it is closed."""
        if self._closing is not None and self._closing.done():
            return self._journal.drained
        return await self._pump.wait_until_drained(timeout_seconds)

    async def close(self, timeout_seconds: float) -> bool:
        """Flush, stop, and remove the journal; on timeout leave it to be adopted and return False.

        May be called several times. What is written afterwards is lost, and logged.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(timeout_seconds), name="close-outbox")
        return await asyncio.shield(self._closing)

    async def _close(self, timeout_seconds: float) -> bool:
        drained = await self.flush(timeout_seconds)
        if self._pumping is not None:
            await self._pumping.close()
        self._unwatch()
        drained = drained and self._journal.drained  # not if something was written meanwhile
        if drained:
            self._journal.remove()
        else:
            self._journal.release()
        return drained

    def _shrink(self) -> None:
        if self._journal.has_waste:
            self._journal.shrink(note for writer in self._writers.values() for note in writer.live_notes())


class SessionWriter:
    """The events of one session in a job's outbox, numbered from 1."""

    def __init__(
        self,
        journal: Journal,
        pump: Pump,
        session_id: str,
        tenant: str,
        epoch: str,
        now: Callable[[], datetime],
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.traceparent: str | None = None
        self._journal = journal
        self._pump = pump
        self._epoch = epoch
        self._now = now
        self._number = 0
        self._notes: dict[str, tuple[Event, datetime]] = {}
        self.watchers: list[
            Callable[[Event, datetime], None]
        ] = []  # called with what is written; may not raise

    def write(
        self,
        event: Event,
        *,
        at: float | None = None,
        settles: str | None = None,
        id: str | None = None,  # noqa: A002 - as in CloudEvents
    ) -> None:
        """Write an event; `at` is when it occurred, in unix seconds, by default now.

        The note under the key `settles` is void from now on. `id` is for an event that other jobs may write
        too; the default is unique.
        """
        number = self._number + 1
        time = self._now() if at is None else datetime.fromtimestamp(at, UTC)
        sealed = self._sealed(event, id or agent_event_id(self.session_id, self._epoch, number), number, time)
        if settles is None:
            self._journal.append(sealed)
        else:
            self._journal.append(sealed, self._key(settles))
            self._notes.pop(settles, None)
        self._number = number  # an event that cannot be encoded takes no number
        self._pump.wake()
        for watcher in self.watchers:
            watcher(event, time)

    def note(self, key: str, event: Event, *, at: float | None = None) -> None:
        """Write an event that is published only if this process is killed.

        It replaces the note under the same key. Of more than 64 keys, the oldest are forgotten.
        """
        time = self._now() if at is None else datetime.fromtimestamp(at, UTC)
        self._journal.note(self._key(key), self._sealed_note(key, event, time))
        self._notes.pop(key, None)
        self._notes[key] = event, time
        if len(self._notes) > LIVE_NOTES:
            forgotten = next(iter(self._notes))
            del self._notes[forgotten]
            log.warning("outbox.note_forgotten", extra={"session_id": self.session_id, "key": forgotten})

    def live_notes(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the journal's keys and events of the notes that are not settled."""
        for key, (event, time) in self._notes.items():
            yield self._key(key), self._sealed_note(key, event, time)

    def _key(self, key: str) -> bytes:
        return f"{self.session_id} {key}".encode(errors="surrogatepass")

    def _sealed_note(self, key: str, event: Event, time: datetime) -> bytes:
        # the process that publishes the note counts on from this number
        return self._sealed(event, agent_note_id(self.session_id, self._epoch, key), self._number, time)

    def _sealed(self, event: Event, event_id: str, number: int, time: datetime) -> bytes:
        sealed = self._encoded(event, event_id, number, time)
        if fits(sealed):
            return sealed
        log.warning("outbox.event_cut", extra={"type": event.TYPE, "id": event_id, "bytes": len(sealed)})
        return self._encoded(cut(event), event_id, number, time)

    def _encoded(self, event: Event, event_id: str, number: int, time: datetime) -> bytes:
        return seal_encoded(
            event,
            id=event_id,
            session_id=self.session_id,
            tenant=self.tenant,
            producer=PRODUCER,
            producerseq=number,
            time=time,
            traceparent=self.traceparent,
        )


def file_name(job_id: str) -> str:
    """Return the job id as a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", job_id)[:100] or "job"
