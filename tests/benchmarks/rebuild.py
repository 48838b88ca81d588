"""Rebuild: each view beside reading the rows that it handles, by two processes and by one; then all views."""

import asyncio
import gc
import time

from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.cursor import Cursor
from antiphon.persistence.projection import Projection
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.rebuild.fold import COLLECTED_AFTER, PAGE

from .history import calls
from .persistence import command
from .report import Report, Result, Servers

CALLS = 12_000  # about 1,092,000 events
PASSES = 2
JOBS = 2  # the default of the command on two cores


async def run(servers: Servers, report: Report) -> None:
    """Fill a log; read and rebuild each view; rebuild all of them with the command."""
    gc.set_threshold(*COLLECTED_AFTER)
    database = await Database.connect(servers.dsn, max_size=8)
    try:
        report.step(f"fill the log with {CALLS} calls", seconds=300)
        events = await fill(database, CALLS)
        for projection in PROJECTIONS:
            report.step(f"read the rows of {projection.name}, and rebuild it", seconds=300)
            await _one(servers, report, database, projection, events)
    finally:
        await database.close()
    report.step("rebuild all views with one command", seconds=300)
    one = await _all(servers, [["--all"]])
    names = [projection.name for projection in PROJECTIONS]
    report.step("rebuild all views with two commands at once", seconds=300)
    two = await _all(servers, [names[::2], names[1::2]])
    works = events * len(PROJECTIONS)
    report.row(_command(f"rebuild --all, {len(names)} views, with its start", works / one))
    report.row(
        _command(
            f"rebuild of {len(names)} views by two commands at once", works / two, "one command", works / one
        )
    )


async def fill(database: Database, count: int) -> int:
    """Put calls into an empty log; return the number of events."""
    await FilledLog(database).put(calls(count))
    await database.pool.execute("vacuum analyze event_log")
    return int(await database.pool.fetchval("select count(*) from event_log"))


async def read_seconds(database: Database, projection: Projection) -> tuple[int, float]:
    """Read the rows that a view handles; return their number, and the seconds that it took."""
    began, rows = time.perf_counter(), 0
    log = Log(database, None)
    async for batch in log.read(Cursor(), types=projection.types, batch=PAGE, prefetch=True):
        rows += len(batch.envelopes)
    return rows, time.perf_counter() - began


async def _one(
    servers: Servers, report: Report, database: Database, projection: Projection, events: int
) -> None:
    reads, builds, alone, rows = [], [], [], 0
    for _ in range(PASSES):
        rows, seconds = await read_seconds(database, projection)
        reads.append(seconds)
        builds.append(await _build_seconds(servers, database, projection, jobs=JOBS))
        alone.append(await _build_seconds(servers, database, projection, jobs=1))
    report.row(
        Result(
            name=f"rebuild {projection.name}: events of the log",
            value=events / min(builds),
            unit="events/s",
            target=50_000,
            better="higher",
        )
    )
    report.row(
        Result(
            name=f"rebuild {projection.name}: events that it handles",
            value=rows / min(builds),
            unit="events/s",
            baseline_name="Log.read",
            baseline=rows / min(reads),
            target=0.5,
            compared="ratio",
            better="higher",
        )
    )
    report.row(
        _command(
            f"rebuild {projection.name} by one process: events that it handles",
            rows / min(alone),
            "Log.read",
            rows / min(reads),
        )
    )


async def _build_seconds(servers: Servers, database: Database, projection: Projection, *, jobs: int) -> float:
    began = time.perf_counter()
    await build(servers.dsn, database, projection, jobs=jobs)
    return time.perf_counter() - began


async def _all(servers: Servers, arguments: list[list[str]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(command(servers, "rebuild", *each) for each in arguments if each))
    return time.perf_counter() - began


def _command(
    name: str, rate: float, baseline_name: str | None = None, baseline: float | None = None
) -> Result:
    return Result(
        name=name,
        value=rate,
        unit="events/s",
        baseline_name=baseline_name,
        baseline=baseline,
        better="higher",
    )
