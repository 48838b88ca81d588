"""The outbox of one job: what happens is written down at once and published as soon as may be."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from antiphon.contracts.envelope import encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.ids import agent_event_id
from antiphon.recorder.outbox.journal import SUFFIX, Journal
from antiphon.recorder.outbox.link import BusLink
from antiphon.recorder.outbox.pump import Pump

PRODUCER = "agent"


def utc_now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


class Outbox:
    """Take events without waiting; the pump publishes them in the order they were written."""

    def __init__(
        self,
        journal_dir: Path,
        link: BusLink,
        *,
        session_id: str,
        tenant: str,
        job_id: str,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.job_id = job_id
        self.traceparent: str | None = None
        self._now = now
        self._number = 0
        self._journal = Journal.create(journal_dir / f"{session_id}.{job_id}{SUFFIX}")
        self._journal.prepare()
        self._pump = Pump(self._journal, link)
        self._pumping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish, on the running loop."""
        self._pumping = asyncio.create_task(self._pump.run(), name="outbox-pump")

    def write(self, event: Event, *, at: float | None = None) -> None:
        """Write an event down; `at` is when it occurred, in unix seconds, when that was not just now."""
        number = self._number + 1
        envelope = seal(
            event,
            id=agent_event_id(self.session_id, self.job_id, number),
            session_id=self.session_id,
            tenant=self.tenant,
            producer=PRODUCER,
            producerseq=number,
            time=self._now() if at is None else datetime.fromtimestamp(at, UTC),
            traceparent=self.traceparent,
        )
        self._journal.append(encode(envelope))
        self._number = number  # an event that cannot be written takes no number
        self._pump.wake()

    async def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was written is acknowledged; False when the time is up first."""
        return await self._pump.flushed(timeout_seconds)

    async def close(self, timeout_seconds: float) -> bool:
        """Flush, stop, and remove the journal; what is left unpublished stays in it for the worker."""
        done = await self.flush(timeout_seconds)
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.wait([self._pumping])
        if done:
            self._journal.remove()
        else:
            self._journal.release()
        return done
