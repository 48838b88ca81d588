"""The pump carries a journal to the broker, in order, and does not give up."""

import asyncio

import structlog

from antiphon.chassis.bus import BusError, BusUnavailable, outgoing
from antiphon.contracts.envelope import decode
from antiphon.contracts.errors import ContractError
from antiphon.recorder.outbox.journal import Batch, Journal
from antiphon.recorder.outbox.link import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, BusLink, jittered

log = structlog.get_logger(__name__)

BATCH_LINES = 500


class Pump:
    """Publish what a journal holds: everything, once or more, never out of order."""

    def __init__(self, journal: Journal, link: BusLink) -> None:
        self.refused = 0
        self._journal = journal
        self._link = link
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()

    def wake(self) -> None:
        """Say that the journal has grown."""
        self._wake.set()

    async def run(self) -> None:
        """Publish for as long as the job writes."""
        while True:
            self._wake.clear()
            self._journal.prepare()
            await self.drain()
            self._emptied.set()
            await self._wake.wait()

    async def drain(self) -> None:
        """Publish until the journal is empty, through every outage of the broker."""
        while batch := self._journal.next_batch(BATCH_LINES):
            await self._deliver(batch)
            self._journal.acknowledge(batch)

    async def flushed(self, timeout_seconds: float) -> bool:
        """Wait until everything written so far is acknowledged; False when the time is up first."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._journal.drained:
                    self._emptied.clear()
                    self.wake()
                    await self._emptied.wait()
        except TimeoutError:
            return False
        return True

    async def _deliver(self, batch: Batch) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._publish(batch.lines)
            except BusUnavailable as error:
                log.warning("outbox.waiting", waiting=len(batch.lines), error=str(error))
            except Exception:
                log.exception("outbox.failed")
            else:
                return
            await asyncio.sleep(jittered(pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _publish(self, lines: list[bytes]) -> None:
        bus = await self._link.bus()
        try:
            outs = [outgoing(decode(line)) for line in lines]
            if len(outs) == 1:
                await bus.publish(outs[0])
            else:
                await bus.publish_many(outs)
        except BusUnavailable:
            raise
        except (BusError, ContractError) as error:
            if len(lines) == 1:
                self._refuse(lines[0], error)
                return
            for line in lines:  # one of them can never be taken: find it, and let the others pass
                await self._publish([line])

    def _refuse(self, line: bytes, error: Exception) -> None:
        self.refused += 1
        log.error("outbox.event_refused", error=str(error), refused=self.refused)
        with self._journal.path.with_suffix(".refused").open("ab") as aside:
            aside.write(line + b"\n")
