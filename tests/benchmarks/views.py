"""Views: what ingest commits beside no view, each view alone and all of them; what each view alone folds."""

import time
from itertools import count

from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.persistence.projections import PROJECTIONS

from .history import calls
from .ingest import conversation
from .persistence import running, until
from .report import Report, Result, Servers

EVENTS = 20_000  # that wait in the stream when ingest starts
CALLS = 400  # that wait in the log when a view starts: about 36,000 events
STEP_SECONDS = 150
NAMES = [projection.name for projection in PROJECTIONS]
FOLDED = """
select not exists (
    select from projection_checkpoints as folded
      join (select partition, max(position) as position from event_log group by partition) as written
        using (partition)
     where projection = any($1) and folded.position < written.position)
"""
INGESTED = "select max(position) >= $1 from checkpoints"
HELD = "select from projection_checkpoints where projection = $1 for update"

_numbers = count()


async def run(servers: Servers, report: Report) -> None:
    """Ingest the same number of events beside each choice of views; let each view fold the same calls."""
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=4)
    try:
        await bus.ensure()
        report.step("build the views", seconds=STEP_SECONDS)
        async with running(servers):
            pass
        alone: float | None = None
        for views in [[], *([name] for name in NAMES), NAMES]:
            named = "no view" if not views else f"all {len(views)} views" if len(views) > 1 else views[0]
            report.step(f"ingest {EVENTS} events beside {named}", seconds=STEP_SECONDS)
            committed = await _ingest(servers, bus, database, views)
            report.row(_result(f"ingest beside {named}", committed, alone))
            alone = alone or committed
        for number, name in enumerate(NAMES):
            report.step(f"fold {CALLS} calls into {name}", seconds=STEP_SECONDS)
            report.row(
                _result(f"live folding, {name} alone", await _fold(servers, database, name, number), None)
            )
    finally:
        await bus.close()
        await database.close()


def _result(name: str, value: float, baseline: float | None) -> Result:
    return Result(
        name=name,
        value=value,
        unit="events/s",
        baseline_name=None if baseline is None else "beside no view",
        baseline=baseline,
        better="higher",
    )


async def _ingest(servers: Servers, bus: Bus, database: Database, views: list[str]) -> float:
    """Let events gather while the log is locked; return the rate at which they are committed then."""
    async with running(servers, views=views):
        await until(database, FOLDED, views)
        async with database.transaction() as connection:
            await connection.execute("lock table event_log in exclusive mode")
            waiting = [outgoing(e) for e in conversation(EVENTS, f"views {next(_numbers)}")]
            for start in range(0, EVENTS, 1000):
                await bus.publish_many(waiting[start : start + 1000])
        began = time.perf_counter()
        stream = await bus.stream_state()
        assert stream is not None
        await until(database, INGESTED, stream.last)
        seconds = time.perf_counter() - began
        await until(database, FOLDED, views)
    return EVENTS / seconds


async def _fold(servers: Servers, database: Database, view: str, number: int) -> float:
    """Let events gather in the log while a view is held; return the rate at which it folds them then."""
    log = FilledLog(database)
    events = list(calls(CALLS, f"tenant-{number}"))
    async with running(servers, "--no-ingest", views=[view]):
        await until(database, FOLDED, [view])
        async with database.transaction() as connection:
            await connection.execute(HELD, view)
            await log.put(events)
        began = time.perf_counter()
        await until(database, FOLDED, [view])
        return len(events) / (time.perf_counter() - began)
