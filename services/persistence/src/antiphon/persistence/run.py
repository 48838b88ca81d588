"""The process: leases, sixteen lines, one loop per projection, and health."""

import asyncio
from contextlib import AsyncExitStack, suppress

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.health import Health, serve_health
from antiphon.chassis.log import Log
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.condition import Condition
from antiphon.persistence.ingest.line import Line, LineOptions
from antiphon.persistence.ingest.writer import Writer
from antiphon.persistence.keep import Work, keep
from antiphon.persistence.lease import Leases
from antiphon.persistence.patience import Stopped
from antiphon.persistence.projection import ProjectionLoop
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.settings import PersistenceSettings
from antiphon.persistence.start import Start

LOG_CONNECTIONS = 6  # two write, the others read checkpoints and answer for health
VIEW_CONNECTIONS = 4  # one that writes and one that reads for each projection


async def run(settings: PersistenceSettings, stop: asyncio.Event) -> None:
    """Serve until stopped; wait for Postgres and NATS if they are not there yet.

    Exits with 1 when the schema or the streams are not what this version works with.
    """
    start = Start(stop)
    health = Health({"start": start.condition.check})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_health(health, settings.health_host, settings.health_port, stop))
        with suppress(Stopped):
            await _serve(settings, health, start, stop)


async def _serve(settings: PersistenceSettings, health: Health, start: Start, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        database = await start.database(settings.postgres_dsn, connections=LOG_CONNECTIONS)
        stack.push_async_callback(database.close)
        views = await start.database(_relaxed(settings.postgres_dsn), connections=VIEW_CONNECTIONS)
        stack.push_async_callback(views.close)
        await start.schema(database)
        bus = await start.bus(settings.nats_url)
        stack.push_async_callback(bus.close)
        health.add("postgres", database.ready)
        health.add("nats", bus.ready)
        work = _ingest(settings, bus, database, health) | _projections(bus, views, health)
        await _keep_all(Leases(settings.postgres_dsn), work, stop)


def _relaxed(dsn: str) -> str:
    # A view and its checkpoint stand or fall together, and what falls is folded again: no need to wait
    # for the disk, as the log itself must.
    return f"{dsn}{'&' if '?' in dsn else '?'}synchronous_commit=off"


def _ingest(
    settings: PersistenceSettings, bus: Bus, database: Database, health: Health
) -> dict[str, tuple[Work, Condition]]:
    writer = Writer(database)
    condition = Condition()
    health.add("ingest", condition.check)
    options = LineOptions(settings.ingest_batch, settings.dead_letters_in_a_row)
    lines = [Line(p, bus, database, writer, condition, options) for p in range(PARTITIONS)]
    return {f"ingest:{partition}": (line.run, condition) for partition, line in enumerate(lines)}


def _projections(bus: Bus, views: Database, health: Health) -> dict[str, tuple[Work, Condition]]:
    work: dict[str, tuple[Work, Condition]] = {}
    for projection in PROJECTIONS:
        condition = Condition()
        health.add(f"projection {projection.name}", condition.check)
        loop = ProjectionLoop(projection, views, Log(views, bus), condition)
        work[f"projection:{projection.name}"] = (loop.run, condition)
    return work


async def _keep_all(leases: Leases, work: dict[str, tuple[Work, Condition]], stop: asyncio.Event) -> None:
    holding = asyncio.create_task(leases.run(), name="leases")
    try:
        async with asyncio.TaskGroup() as group:
            for name, (do, condition) in work.items():
                group.create_task(keep(leases, name, do, condition, stop), name=name)
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
