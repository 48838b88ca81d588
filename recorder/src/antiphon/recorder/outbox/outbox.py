"""The outbox of one job: events are written to its journal at once, and a pump publishes them in order."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.ids import agent_event_id, agent_note_id
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import SUFFIX, Journal
from antiphon.recorder.outbox.pump import Pump

log = get_logger(__name__)

PRODUCER = "agent"


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
    """A durable queue of the events of a job, of one or several sessions; writing never waits."""

    def __init__(
        self, journal_dir: Path, link: BusLink, *, job_id: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.job_id = job_id
        self._now = now
        self._writers: dict[str, SessionWriter] = {}
        self._journal = Journal.create(journal_dir / f"{file_name(job_id)}{SUFFIX}")
        self._pump = Pump(self._journal, link)
        self._pumping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start publishing, on the running loop; calls after the first do nothing."""
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump.run(), name="outbox-pump")

    def writer(self, session_id: str, tenant: str) -> "SessionWriter":
        """Return the session's writer, the same one for every call."""
        writer = self._writers.get(session_id)
        if writer is None:
            writer = SessionWriter(self._journal, self._pump, session_id, tenant, self.job_id, self._now)
            self._writers[session_id] = writer
        return writer

    @property
    def intact(self) -> bool:
        """Whether no event was refused by the broker or lost for want of disk and memory."""
        return not self._pump.refused and not self._journal.lost

    async def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything written is acknowledged; return False on timeout."""
        return await self._pump.wait_until_drained(timeout_seconds)

    async def close(self, timeout_seconds: float) -> bool:
        """Flush, stop, and remove the journal; on timeout leave it to be adopted and return False."""
        drained = await self.flush(timeout_seconds)
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.wait([self._pumping])
        if drained:
            self._journal.remove()
        else:
            self._journal.release()
        return drained


class SessionWriter:
    """The events of one session in a job's outbox, numbered from 1."""

    def __init__(
        self,
        journal: Journal,
        pump: Pump,
        session_id: str,
        tenant: str,
        job_id: str,
        now: Callable[[], datetime],
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.traceparent: str | None = None
        self._journal = journal
        self._pump = pump
        self._job_id = job_id
        self._now = now
        self._number = 0

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
        event_id = id or agent_event_id(self.session_id, self._job_id, number)
        sealed = self._sealed(event, event_id, number, at)
        self._journal.append(sealed, b"" if settles is None else self._key(settles))
        self._number = number  # an event that cannot be encoded takes no number
        self._pump.wake()

    def note(self, key: str, event: Event, *, at: float | None = None) -> None:
        """Write an event that is published only if this process is killed.

        It replaces the note under the same key.
        """
        sealed = self._sealed(event, agent_note_id(self.session_id, self._job_id, key), self._number, at)
        self._journal.note(self._key(key), sealed)

    def _key(self, key: str) -> bytes:
        return f"{self.session_id} {key}".encode()

    def _sealed(self, event: Event, event_id: str, number: int, at: float | None) -> bytes:
        envelope = seal(
            event,
            id=event_id,
            session_id=self.session_id,
            tenant=self.tenant,
            producer=PRODUCER,
            producerseq=number,
            time=self._now() if at is None else datetime.fromtimestamp(at, UTC),
            traceparent=self.traceparent,
        )
        return encode(envelope)


def file_name(job_id: str) -> str:
    """Return the job id as a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", job_id)[:100]
