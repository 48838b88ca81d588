"""Journals without a writer: a job that was killed, or that ended before the broker came back."""

import asyncio
from pathlib import Path

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.recorder import metrics
from antiphon.recorder.outbox.bus_link import BusLink
from antiphon.recorder.outbox.journal import Journal
from antiphon.recorder.outbox.journal_file import SUFFIX, NotAJournal
from antiphon.recorder.outbox.notes import LeftNotes
from antiphon.recorder.outbox.pump import OUTAGES, Pump
from antiphon.recorder.outbox.records import EVENT

log = get_logger(__name__)

SCAN_SECONDS = 10.0  # a job can outlive its worker, and then nothing calls `wake` when it ends
RECORDS_PER_STEP = 500  # read without a pause of the loop, which may serve a call

Version = tuple[int, int, int]  # of a file: inode, size, time of the last change


class Orphans:
    """The orphaned journals of a folder, which this process publishes and removes."""

    def __init__(self, journal_dir: Path, link: BusLink) -> None:
        self._journal_dir = journal_dir
        self._link = link
        self._wake = asyncio.Event()
        self._failed: set[Path] = set()  # each is logged once
        self._adopting = asyncio.Lock()  # a second scan would pass over the journal that the first publishes
        self._hopeless: dict[Path, Version] = {}  # not tried again until they change

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
        """Publish every orphaned journal, waiting for the broker; return how many there were.

        One scan runs at a time: a call during another one waits for its end, then scans. What cannot be
        published is left as it is, and logged once.
        """
        async with self._adopting:
            return await self._scan()

    async def _scan(self) -> int:
        adopted = 0
        for path in self._journals():
            try:
                adopted += await self._adopt(path)
            except Exception as error:
                if isinstance(error, NotAJournal):
                    self._hopeless[path] = _version(path)
                if path not in self._failed:
                    self._failed.add(path)
                    log.exception("orphans.adopt_failed", extra={"journal": ascii(path.name)})
        return adopted

    def _journals(self) -> list[Path]:
        try:
            found = sorted(self._journal_dir.glob(f"*{SUFFIX}"))
        except OSError:
            if self._journal_dir not in self._failed:
                self._failed.add(self._journal_dir)
                log.exception("orphans.scan_failed", extra={"folder": str(self._journal_dir)})
            return []
        self._failed.intersection_update((*found, self._journal_dir))
        self._hopeless = {path: self._hopeless[path] for path in found if path in self._hopeless}
        return [path for path in found if self._hopeless.get(path) != _version(path)]

    async def _adopt(self, path: Path) -> bool:
        journal = Journal.adopt(path)
        if journal is None:
            return False
        try:
            await self._publish(journal)
        except BaseException:
            journal.release()
            raise
        if not journal.remove():
            self._hopeless[path] = _version(path)  # published; another try would not delete it either
        return True

    async def _publish(self, journal: Journal) -> None:
        """Publish the events of a journal, then what its job had noted and not written."""
        notes = LeftNotes()
        for number, record in enumerate(journal.scan(), start=1):
            notes.see(record)
            if record.kind == EVENT and record.end > journal.acknowledged:
                journal.appended += 1
            if number % RECORDS_PER_STEP == 0:
                await asyncio.sleep(0)
        if not journal.drained:
            log.warning("orphans.publishing", extra={"journal": journal.path.name})
        pump = Pump(journal, self._link)
        retry = retrying(*OUTAGES, on_retry=_log_retry)
        unwatch = metrics.watch(pump)
        try:
            await retry(pump.drain)
        finally:
            unwatch()
        recovered = notes.events()
        for event in recovered:
            await retry(pump.publish, [event])
        if recovered:
            extra = {"journal": journal.path.name, "events": len(recovered)}
            log.warning("orphans.notes_published", extra=extra)


def _version(path: Path) -> Version:
    try:
        status = path.lstat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _log_retry(error: BaseException, attempt: int) -> None:
    log.warning("orphans.broker_unavailable", extra={"attempt": attempt, "error": str(error)})
