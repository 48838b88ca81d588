"""Acknowledge what was committed, a little later: the checkpoint is the truth, the ack only shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from chassis.bus import BusError, Incoming, Puller

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.1  # one ack covers all commits in between


class Acknowledgements:
    """Remember the newest commit that the consumer does not know of yet."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self._newest: Incoming | None = None
        self._news = asyncio.Event()

    def through(self, incoming: Incoming) -> None:
        """Note that everything up to this message is committed."""
        self._newest = incoming
        self._news.set()

    async def run(self) -> None:
        """Acknowledge the newest commit, again and again."""
        while True:
            await self._news.wait()
            await self.send()
            await asyncio.sleep(EVERY_SECONDS)

    async def send(self) -> None:
        """Acknowledge the newest commit now; when that fails, the next ack covers it."""
        newest, self._newest = self._newest, None
        self._news.clear()
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
