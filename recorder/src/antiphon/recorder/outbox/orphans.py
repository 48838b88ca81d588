"""Journals whose job is dead: the worker publishes what they still hold."""

import asyncio
from pathlib import Path

import structlog

from antiphon.recorder.outbox.journal import SUFFIX, Journal
from antiphon.recorder.outbox.link import BusLink
from antiphon.recorder.outbox.pump import Pump

log = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 10.0  # a job can outlive its worker by a moment, and then nobody tells of its end


class Orphans:
    """Find journals without a writer, publish them, and remove them."""

    def __init__(self, journal_dir: Path, link: BusLink) -> None:
        self._journal_dir = journal_dir
        self._link = link
        self._look = asyncio.Event()

    def look(self) -> None:
        """Look now: a job has just ended."""
        self._look.set()

    async def run(self) -> None:
        """Look at start, whenever a job ends, and from time to time."""
        while True:
            self._look.clear()
            await self.adopt_all()
            try:
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def adopt_all(self) -> int:
        """Publish every orphaned journal; return how many there were."""
        adopted = 0
        for path in sorted(self._journal_dir.glob(f"*{SUFFIX}")):
            try:
                adopted += await self._adopt(path)
            except OSError:  # this one cannot be read: the others can
                log.exception("orphans.failed", journal=path.name)
        return adopted

    async def _adopt(self, path: Path) -> bool:
        journal = Journal.adopt(path)
        if journal is None:
            return False
        await self._publish(journal)
        return True

    async def _publish(self, journal: Journal) -> None:
        if not journal.drained:
            log.warning("orphans.publishing", journal=journal.path.name)
        try:
            await Pump(journal, self._link).drain()
        except BaseException:
            journal.release()
            raise
        journal.remove()
