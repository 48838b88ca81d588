"""Acknowledge what was committed, a little later: the checkpoint is the truth, the ack only shows it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from antiphon.chassis.bus import BusError, Incoming, Puller

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.5  # one ack covers all commits in between
AT_MOST = 2_000  # events committed and not acknowledged: the consumer has room for five times as many


class Acknowledgements:
    """Remember the newest commit that the consumer does not know of yet."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self._newest: Incoming | None = None
        self._count = 0
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()

    def through(self, batch: Sequence[Incoming]) -> None:
        """Note that a batch, and everything before it, is committed."""
        self._newest = batch[-1]
        self._count += len(batch)
        self._news.set()
        if self._count >= AT_MOST:
            self._urgent.set()

    async def run(self) -> None:
        """Acknowledge the newest commit, again and again."""
        while True:
            await self._news.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._urgent.wait()
            await self.send()

    async def send(self) -> None:
        """Acknowledge the newest commit now; when that fails, the next ack covers it."""
        newest, self._newest, self._count = self._newest, None, 0
        self._news.clear()
        self._urgent.clear()
        if newest is None:
            return
        try:
            await self._puller.ack_through(newest)
        except BusError as error:
            log.info("ingest.ack_failed", position=newest.position, error=str(error))


@asynccontextmanager
async def acknowledging(puller: Puller) -> AsyncIterator[Acknowledgements]:
    """Acknowledge in the background for as long as the block runs, and once more at its end."""
    acknowledgements = Acknowledgements(puller)
    task = asyncio.create_task(acknowledgements.run(), name="ingest acks")
    try:
        yield acknowledgements
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await acknowledgements.send()
