"""The process: leases, sixteen lines, one loop per projection, and health."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chassis.bus import Bus, BusUnavailable, DefinitionMismatch
from chassis.database import Database, DatabaseUnavailable
from chassis.health import Health, serve_health
from chassis.log import Log
from contracts.subjects import PARTITIONS
from persistence import migrations
from persistence.condition import Condition
from persistence.ingest.line import Line, LineOptions
from persistence.ingest.writer import Writer
from persistence.keep import keep
from persistence.lease import Leases
from persistence.patience import Patience, Stopped, or_stop
from persistence.projection import ProjectionLoop
from persistence.projections import PROJECTIONS
from persistence.settings import PersistenceSettings

CONNECT_SECONDS = 2.0  # for one try, of as many as it takes
CONNECTIONS = 12  # two that write the log, two a projection, and some to spare

T = TypeVar("T")


async def run(settings: PersistenceSettings, stop: asyncio.Event) -> None:
    """Serve until stopped; wait for Postgres and NATS if they are not there yet.

    Exits with 1 when the schema or the streams are not what this version works with.
    """
    start = Condition()
    health = Health({"start": start.check})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_health(health, settings.health_host, settings.health_port, stop))
        try:
            await _serve(settings, health, start, stop)
        except Stopped:
            return


async def _serve(
    settings: PersistenceSettings, health: Health, start: Condition, stop: asyncio.Event
) -> None:
    start.starting("nats")
    start.starting("postgres")
    database = await _eventually(
        lambda: Database.connect(
            settings.postgres_dsn, max_size=CONNECTIONS, connect_timeout_seconds=CONNECT_SECONDS
        ),
        start,
        "postgres",
        stop,
    )
    try:
        bus = await _eventually(
            lambda: Bus.connect(
                settings.nats_url, name="persistence", connect_timeout_seconds=CONNECT_SECONDS
            ),
            start,
            "nats",
            stop,
        )
        try:
            await _eventually(lambda: _check_schema(database), start, "postgres", stop)
            await _eventually(lambda: _ensure_streams(bus), start, "nats", stop)
            health.add("postgres", database.ready)
            health.add("nats", bus.ready)
            await _work(settings, database, bus, health, stop)
        finally:
            await bus.close()
    finally:
        await database.close()


async def _work(
    settings: PersistenceSettings, database: Database, bus: Bus, health: Health, stop: asyncio.Event
) -> None:
    leases = Leases(settings.postgres_dsn)
    options = LineOptions(settings.ingest_batch, settings.dead_letters_in_a_row)
    event_log = Log(database, bus)
    writer = Writer(database)
    ingest = Condition()
    health.add("ingest", ingest.check)
    holding = asyncio.create_task(leases.run(), name="leases")
    try:
        async with asyncio.TaskGroup() as group:
            for partition in range(PARTITIONS):
                line = Line(partition, bus, database, writer, ingest, options)
                group.create_task(keep(leases, f"ingest:{partition}", line.run, ingest, stop))
            for projection in PROJECTIONS:
                view = Condition()
                health.add(f"projection {projection.name}", view.check)
                loop = ProjectionLoop(projection, database, event_log, view)
                group.create_task(keep(leases, f"projection:{projection.name}", loop.run, view, stop))
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def _eventually(
    action: Callable[[], Awaitable[T]], start: Condition, name: str, stop: asyncio.Event
) -> T:
    patience = Patience(stop)
    while True:
        try:
            result = await or_stop(action(), stop)
        except (DatabaseUnavailable, BusUnavailable) as error:
            start.bad(name, str(error))
            await patience.pause()
        else:
            start.good(name)
            return result


async def _check_schema(database: Database) -> None:
    async with database.transaction() as connection:
        current = await migrations.current(connection)
    needed = migrations.head()
    if current != needed:
        raise SystemExit(
            f"The database is at schema revision {current or 'none'}, this version needs {needed}: "
            "run `python -m persistence migrate` first."
        )


async def _ensure_streams(bus: Bus) -> None:
    try:
        await bus.ensure()
    except DefinitionMismatch as error:
        raise SystemExit(f"The broker does not hold what the contract defines: {error}") from error
