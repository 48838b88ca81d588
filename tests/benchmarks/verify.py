"""Verify: each view against the fold of the log, and the hash chains of the log, beside reading the log."""

import time

from antiphon.chassis.database import Database
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.verify.log_chain import verify_log
from antiphon.persistence.verify.views import verify_view

from .rebuild import fill, read_seconds
from .report import Report, Result, Servers

CALLS = 600  # about 55,000 events


async def run(servers: Servers, report: Report) -> None:
    """Fill a log, build the views, verify each of them and the log."""
    database = await Database.connect(servers.dsn, max_size=8)
    try:
        report.step(f"fill the log with {CALLS} calls", seconds=120)
        events = await fill(database, CALLS)
        for projection in PROJECTIONS:
            report.step(f"build {projection.name}", seconds=60)
            await build(servers.dsn, database, projection)
            report.step(f"verify {projection.name}", seconds=120)
            rows, reading = await read_seconds(database, projection)
            began = time.perf_counter()
            found = await verify_view(database, projection)
            seconds = time.perf_counter() - began
            if found.difference_count:
                raise RuntimeError(f"{projection.name} differs from the log: {found.differences[:3]}")
            report.row(_result(f"verify {projection.name}: events that it handles", rows, seconds, reading))
        report.step("verify the log", seconds=120)
        _, reading = await read_seconds(database, PROJECTIONS[0])
        began = time.perf_counter()
        chains = await verify_log(database)
        seconds = time.perf_counter() - began
        if not chains.ok or chains.verified != events:
            raise RuntimeError(f"{chains.verified} of {events} events: {chains.differences[:3]}")
        report.row(_result("verify --log", events, seconds, reading))
    finally:
        await database.close()


def _result(name: str, rows: int, seconds: float, reading: float) -> Result:
    return Result(
        name=name,
        value=rows / seconds,
        unit="events/s",
        baseline_name="Log.read",
        baseline=rows / reading,
        better="higher",
    )
