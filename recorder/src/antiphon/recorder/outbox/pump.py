"""The pump of a journal: publishes its events in order, through every outage of the broker."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import UNSET

from antiphon.chassis.bus import BusError, BusUnavailable, StreamFull, outgoing
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.chassis.tracing import publishing_many
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import ContractError
from antiphon.contracts.registry import MILESTONES
from antiphon.contracts.streams import SESSIONS
from antiphon.recorder import metrics
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import Journal
from antiphon.recorder.outbox.rooms import announce_room

log = get_logger(__name__)

BATCH_LINES = 500
LINGER_SECONDS = 0.02
REFUSED_BYTES = 16 * 1024 * 1024  # of the file with the refused events of a job
OUTAGES = (BusUnavailable, StreamFull)  # the fault is not the event's: retry


def _nothing() -> None:
    pass


def _traced(envelopes: list[Envelope]) -> str | None:
    """Return the trace of the first event that a trace shows."""
    for envelope in envelopes:
        if envelope.traceparent is not UNSET and envelope.type in MILESTONES:
            return str(envelope.traceparent)
    return None


class Pump:
    """The publisher of a journal: every event at least once, in order."""

    def __init__(
        self, journal: Journal, link: BusLink, *, on_acknowledged: Callable[[], object] = _nothing
    ) -> None:
        self.refused = 0
        self.refused_lost = 0  # of the refused events, those that are in no file
        self.acknowledged = 0  # events of the journal, by the broker or set aside
        self._journal = journal
        self._batch_time: float | None = None  # of the oldest event under way, in unix seconds
        self._link = link
        self._on_acknowledged = on_acknowledged
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._hurry = asyncio.Event()

    def wake(self) -> None:
        """Publish the new events of the journal."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; retry every error, such as an outage of the broker."""
        drain = retrying(Exception, on_retry=self._log_retry)
        while True:
            self._wake.clear()
            await drain(self.drain)
            self._drained.set()
            await self._wake.wait()
            await self._linger()

    async def _linger(self) -> None:
        """Wait for the events that come with the first, so that an answer does not wait for each of them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._hurry.wait()

    async def drain(self) -> None:
        """Publish until the journal is empty; may be called again after an error.

        Raises BusUnavailable, StreamFull, OSError.
        """
        while batch := self._journal.next_batch(BATCH_LINES):
            if batch.lines:
                self._batch_time = _time_of(batch.lines[0])
            await self.publish(batch.lines)
            self._journal.acknowledge(batch)
            self.acknowledged += len(batch.lines)
            self._on_acknowledged()
        self._batch_time = None

    @property
    def events_waiting(self) -> int:
        """How many events of the journal are not acknowledged."""
        return max(0, self._journal.appended - self.acknowledged)

    @property
    def bytes_held(self) -> int:
        """The size of the journal."""
        return self._journal.bytes_held

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest event that is not acknowledged, 0 if there is none."""
        return 0.0 if self._batch_time is None else max(0.0, time.time() - self._batch_time)

    async def wait_until_drained(self, timeout_seconds: float) -> bool:
        """Wait until everything written so far is acknowledged; return False on timeout."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._journal.drained:
                    self._drained.clear()
                    self.wake()
                    await self._drained.wait()
        except TimeoutError:
            return False
        finally:
            self._hurry.clear()
        return True

    async def publish(self, lines: list[bytes]) -> None:
        """Publish events in order; those that can never be published are set aside.

        Raises BusUnavailable, StreamFull.
        """
        if not lines:
            return
        bus = await self._link.bus()
        try:
            envelopes = [decode(line) for line in lines]
            messages = [outgoing(envelope) for envelope in envelopes]
            with publishing_many(SESSIONS.name, len(messages), _traced(envelopes)):
                if len(messages) == 1:
                    await bus.publish(messages[0])
                else:
                    await bus.publish_many(messages)
        except OUTAGES:
            raise
        except (BusError, ContractError, ValueError) as error:  # ValueError: a header that NATS cannot carry
            if len(lines) == 1:
                self._set_aside(lines[0], error)
                return
            for line in lines:  # publish one by one, so that only the refused one is set aside
                await self.publish([line])
            return
        metrics.events.add(len(envelopes), "published")
        for envelope in envelopes:
            await announce_room(bus, envelope)

    def _set_aside(self, line: bytes, error: Exception) -> None:
        self.refused += 1
        metrics.events.add(1, "refused")
        log.error("outbox.event_refused", extra={"error": str(error), "refused": self.refused})
        path = self._journal.path.with_suffix(".refused")
        reason = "the file is full"
        try:
            with open(path, "ab", opener=partial(os.open, mode=0o600)) as refused:
                if refused.tell() + len(line) <= REFUSED_BYTES:
                    refused.write(line + b"\n")
                    return
        except OSError as problem:  # the events after it must still be published
            reason = str(problem)
        self.refused_lost += 1
        metrics.events.add(1, "lost")
        extra = {"path": str(path), "reason": reason, "lost": self.refused_lost}
        log.error("outbox.refused_event_lost", extra=extra)

    def _log_retry(self, error: BaseException, attempt: int) -> None:
        extra = {"journal": self._journal.path.name, "attempt": attempt, "error": str(error)}
        if isinstance(error, OUTAGES):
            log.warning("outbox.broker_unavailable", extra=extra)
        else:
            log.error("outbox.publish_failed", extra=extra, exc_info=error if attempt == 1 else None)


def _time_of(line: bytes) -> float:
    try:
        return decode(line).time.timestamp()
    except ContractError:  # it is set aside when it is its turn
        return time.time()
