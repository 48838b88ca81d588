"""More processes that fold shares of a long log; what they leave, the caller folds."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from antiphon.persistence.rebuild.shares import Partitions, Shares

log = structlog.get_logger(__name__)

START_SECONDS = 60.0  # until a process reports for the first time
SILENT_SECONDS = 300.0  # of a process between two batches: more than the limits of its statements
END_SECONDS = 10.0

WORKER = (sys.executable, "-m", "antiphon.persistence.rebuild.worker")


class Work(msgspec.Struct, frozen=True):
    """What a process folds: the first line of JSON on its standard input; each other line is a share."""

    dsn: str
    projection: str
    epoch: int
    until: dict[int, int]  # positions by partition
    fingerprint: str  # of the code that may fold
    empty: bool  # nothing was folded before


class Report(msgspec.Struct, frozen=True):
    """What a process has folded since its last report, and which part is done: a line of JSON."""

    events: int
    done: float  # of the share
    finished: bool = False  # the share: it takes another one, or ends when its input does


encode = msgspec.json.Encoder().encode
_report = msgspec.json.Decoder(Report)


async def fold_in_processes(work: Work, shares: Shares, count: int) -> None:
    """Fold shares of the partitions with so many processes; when one fails, all end.

    What they have committed stays. Each logs its error; the caller, which folds the rest, meets it too.
    """

    async def run() -> None:
        share = shares.take()  # before the process starts, so that it has one
        if share is None:
            return
        async with _Worker(work) as worker:
            while share is not None:
                await worker.fold(share, shares)
                share = shares.take()
            await worker.end()

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(run(), name=f"rebuild: process {number}")
    except* _Failed as failed:
        reasons = [str(error) for error in failed.exceptions]
        log.warning("rebuild.process_failed", projection=work.projection, reasons=reasons)


class _Failed(Exception):
    """A process ended before its work was done, or reports nothing."""


class _Worker:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._process: Process | None = None
        self._limit = START_SECONDS

    async def __aenter__(self) -> "_Worker":
        # in a session of its own: Ctrl-C is for the process that starts it
        process = self._process = await asyncio.create_subprocess_exec(
            *WORKER, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(encode(self._work) + b"\n")
        return self

    async def fold(self, share: Partitions, shares: Shares) -> None:
        """Have a share folded. Raises _Failed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(encode(share) + b"\n")
        on_progress = shares.progress(share)
        while not (report := await self._report(process)).finished:
            on_progress(report.events, report.done)

    async def end(self) -> None:
        """Close the input of the process, which ends. Raises _Failed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        async with self._limited(process):
            await process.wait()
        if process.returncode != 0:
            raise _Failed(f"process {process.pid} ended with {process.returncode}")

    async def _report(self, process: Process) -> Report:
        assert process.stdout is not None
        async with self._limited(process):
            line = await process.stdout.readline()
            if not line:
                raise _Failed(f"process {process.pid} ended with {await process.wait()}")
        self._limit = SILENT_SECONDS
        return _report.decode(line)

    @asynccontextmanager
    async def _limited(self, process: Process) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limit):
                yield
        except TimeoutError:
            raise _Failed(f"process {process.pid} has reported nothing for {self._limit:.0f} s") from None

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
