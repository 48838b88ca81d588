"""The outbox of one job: events are written to its journal at once, and a pump publishes them in order."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from antiphon.chassis.bus import BusError, BusUnavailable, outgoing
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import decode, encode, seal
from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import Event
from antiphon.contracts.ids import agent_event_id
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import SUFFIX, Journal

log = get_logger(__name__)

PRODUCER = "agent"
BATCH_LINES = 500


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class WriteEvent(Protocol):
    """A function that writes an event at once."""

    def __call__(self, event: Event, *, at: float | None = None) -> None:
        """Write an event; `at` is when it occurred, in unix seconds, by default now."""


class Outbox:
    """A durable queue of events; writing never waits for the broker."""

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
        self._pump = Pump(self._journal, link)
        self._pumping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start publishing, on the running loop."""
        self._pumping = asyncio.create_task(self._pump.run(), name="outbox-pump")

    def write(self, event: Event, *, at: float | None = None, id: str | None = None) -> None:  # noqa: A002 - as in CloudEvents
        """Write an event; `at` is when it occurred, in unix seconds, by default now.

        `id` is for an event that other jobs may write too; the default is unique.
        """
        number = self._number + 1
        envelope = seal(
            event,
            id=id or agent_event_id(self.session_id, self.job_id, number),
            session_id=self.session_id,
            tenant=self.tenant,
            producer=PRODUCER,
            producerseq=number,
            time=self._now() if at is None else datetime.fromtimestamp(at, UTC),
            traceparent=self.traceparent,
        )
        self._journal.append(encode(envelope))
        self._number = number  # an event that cannot be encoded takes no number
        self._pump.wake()

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


class Pump:
    """The publisher of a journal: every line at least once, in order."""

    def __init__(self, journal: Journal, link: BusLink) -> None:
        self.refused = 0
        self._journal = journal
        self._link = link
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()

    def wake(self) -> None:
        """Publish the new lines of the journal."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; retry every error, such as an outage of the broker."""
        drain = retrying(Exception, on_retry=self._log_retry)
        while True:
            self._wake.clear()
            await drain(self.drain)
            self._drained.set()
            await self._wake.wait()

    async def drain(self) -> None:
        """Publish until the journal is empty; may be called again after an error.

        Raises BusUnavailable, OSError.
        """
        while batch := self._journal.next_batch(BATCH_LINES):
            await self._publish(batch.lines)
            self._journal.acknowledge(batch)

    async def wait_until_drained(self, timeout_seconds: float) -> bool:
        """Wait until everything written so far is acknowledged; return False on timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._journal.drained:
                    self._drained.clear()
                    self.wake()
                    await self._drained.wait()
        except TimeoutError:
            return False
        return True

    async def _publish(self, lines: list[bytes]) -> None:
        bus = await self._link.bus()
        try:
            messages = [outgoing(decode(line)) for line in lines]
            if len(messages) == 1:
                await bus.publish(messages[0])
            else:
                await bus.publish_many(messages)
        except BusUnavailable:
            raise
        except (BusError, ContractError) as error:
            if len(lines) == 1:
                self._set_aside(lines[0], error)
                return
            for line in lines:  # publish one by one, so that only the refused one is set aside
                await self._publish([line])

    def _set_aside(self, line: bytes, error: Exception) -> None:
        self.refused += 1
        log.error("outbox.event_refused", extra={"error": str(error), "refused": self.refused})
        path = self._journal.path.with_suffix(".refused")
        try:
            with open(path, "ab", opener=partial(os.open, mode=0o600)) as refused:
                refused.write(line + b"\n")
        except OSError:  # the events after it must still be published
            log.exception("outbox.refused_event_lost", extra={"path": str(path)})

    def _log_retry(self, error: BaseException, attempt: int) -> None:
        extra = {"journal": self._journal.path.name, "attempt": attempt, "error": str(error)}
        if isinstance(error, BusUnavailable):
            log.warning("outbox.broker_unavailable", extra=extra)
        else:
            log.error("outbox.publish_failed", extra=extra, exc_info=error if attempt == 1 else None)
