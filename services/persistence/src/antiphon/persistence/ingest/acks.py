"""Acknowledge commits in the background: one ack covers many, and acks only report progress."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import BusError, Incoming, Puller

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 0.5
MAX_UNACKNOWLEDGED = 2_000  # events; the consumer accepts five times as many


class DelayedAcks:
    """The newest commit that is not acknowledged yet."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self._newest: Incoming | None = None
        self._count = 0
        self._pending = asyncio.Event()
        self._urgent = asyncio.Event()

    def add(self, batch: Sequence[Incoming]) -> None:
        """Acknowledge a batch, and everything before it, with the next ack."""
        self._newest = batch[-1]
        self._count += len(batch)
        self._pending.set()
        if self._count >= MAX_UNACKNOWLEDGED:
            self._urgent.set()

    async def run(self) -> None:
        """Send an ack after each interval with commits, or as soon as too many events wait for it."""
        while True:
            await self._pending.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._urgent.wait()
            await self.send()

    async def send(self) -> None:
        """Acknowledge the newest commit now; if that fails, the next ack covers it."""
        newest, self._newest, self._count = self._newest, None, 0
        self._pending.clear()
        self._urgent.clear()
        if newest is None:
            return
        try:
            await self._puller.ack_through(newest)
        except BusError as error:
            log.info("ingest.ack_failed", position=newest.position, error=str(error))


@asynccontextmanager
async def delayed_acks(puller: Puller) -> AsyncIterator[DelayedAcks]:
    """Acknowledge in the background while the block runs, and once more at its end."""
    acks = DelayedAcks(puller)
    task = BackgroundTask(acks.run, name="ingest acks")
    try:
        yield acks
    finally:
        await task.close()
        await acks.send()
