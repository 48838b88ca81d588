"""Journals without a writer: a job that was killed, or that ended before the broker came back."""

import asyncio
from pathlib import Path

from antiphon.chassis.bus import BusUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import SUFFIX, Journal
from antiphon.recorder.outbox.pump import Pump

log = get_logger(__name__)

SCAN_SECONDS = 10.0  # a job can outlive its worker, and then nothing calls `wake` when it ends


class Orphans:
    """The orphaned journals of a folder, which this process publishes and removes."""

    def __init__(self, journal_dir: Path, link: BusLink) -> None:
        self._journal_dir = journal_dir
        self._link = link
        self._wake = asyncio.Event()
        self._failed: set[Path] = set()  # each is logged once

    def wake(self) -> None:
        """Scan now: a job has just ended."""
        self._wake.set()

    async def run(self) -> None:
        """Scan at start, after each `wake`, and periodically, until cancelled."""
        while True:
            self._wake.clear()
            await self.adopt_all()
            try:
                async with asyncio.timeout(SCAN_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def adopt_all(self) -> int:
        """Publish every orphaned journal, waiting for the broker; return how many there were."""
        adopted = 0
        for path in sorted(self._journal_dir.glob(f"*{SUFFIX}")):
            try:
                adopted += await self._adopt(path)
            except Exception:
                if path not in self._failed:
                    self._failed.add(path)
                    log.exception("orphans.adopt_failed", extra={"journal": path.name})
        return adopted

    async def _adopt(self, path: Path) -> bool:
        journal = Journal.adopt(path)
        if journal is None:
            return False
        if not journal.drained:
            log.warning("orphans.publishing", extra={"journal": path.name})
        try:
            await retrying(BusUnavailable, on_retry=_log_retry)(Pump(journal, self._link).drain)
        except BaseException:
            journal.release()
            raise
        journal.remove()
        return True


def _log_retry(error: BaseException, attempt: int) -> None:
    log.warning("orphans.broker_unavailable", extra={"attempt": attempt, "error": str(error)})
