"""Fold a long log with several processes, each some partitions; what they leave, the caller folds."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import msgspec
import structlog

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.rebuild.fold import OnProgress

log = structlog.get_logger(__name__)

START_SECONDS = 60.0  # until a process reports for the first time
SILENT_SECONDS = 300.0  # of a process between two batches: more than the limits of its statements
END_SECONDS = 10.0

WORKER = (sys.executable, "-m", "antiphon.persistence.rebuild.worker")


class Work(msgspec.Struct, frozen=True):
    """What a process folds: a line of JSON on its standard input, which stays open until it shall end."""

    dsn: str
    projection: str
    epoch: int
    until: dict[int, int]  # positions by partition
    fingerprint: str  # of the code that may fold
    empty: bool  # nothing was folded before
    partitions: tuple[int, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What a process has folded since its last report, and which part is done: a line of JSON."""

    events: int
    done: float


encode = msgspec.json.Encoder().encode
_report = msgspec.json.Decoder(Report)


async def fold_in_processes(work: Work, count: int, on_progress: OnProgress) -> None:
    """Fold with so many processes; when one fails, all end, and what they committed stays.

    The error is logged by the process: the caller, which folds the rest, meets it too.
    """
    count = min(count, PARTITIONS)
    done = [0.0] * count

    async def run(number: int) -> None:
        partitions = tuple(range(number, PARTITIONS, count))
        async with _Worker(msgspec.structs.replace(work, partitions=partitions)) as worker:
            while (report := await worker.report()) is not None:
                done[number] = report.done
                on_progress(report.events, sum(done) / count)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(run(number), name=f"rebuild: process {number}")
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

    async def report(self) -> Report | None:
        """Return the next report, None when all is done. Raises _Failed."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._limit):
                line = await process.stdout.readline()
                if not line and await process.wait() == 0:
                    return None
        except TimeoutError:
            raise _Failed(f"process {process.pid} has reported nothing for {self._limit:.0f} s") from None
        if not line:
            raise _Failed(f"process {process.pid} ended with {process.returncode}")
        self._limit = SILENT_SECONDS
        return _report.decode(line)

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
