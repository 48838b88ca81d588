"""The process: leases, an ingest loop for each partition held, one loop per projection, and health."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import NamedTuple

from antiphon.chassis.audit import Audit
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.health import Health, serve_health
from antiphon.chassis.log import Log
from antiphon.chassis.shutdown import ShuttingDown
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.ingest.backlog import watch_backlog
from antiphon.persistence.ingest.group_writer import GroupWriter
from antiphon.persistence.ingest.partition import IngestOptions, PartitionIngest
from antiphon.persistence.leases.connection import Leases
from antiphon.persistence.leases.locks import INGEST, projection_group
from antiphon.persistence.leases.work import Work, finished, run_while_leased
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import view_dsn
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.upgrade import keep_built
from antiphon.persistence.retention import keep_erasing
from antiphon.persistence.settings import PersistenceSettings
from antiphon.persistence.startup import Startup

LOG_CONNECTIONS = 6  # two write, the others read checkpoints and check health
VIEW_CONNECTIONS = 2  # of each projection: one that writes and one that reads


class Leased(NamedTuple):
    """The work on each partition of a group that this replica holds, and its readiness check."""

    group: str
    work: Work
    readiness: ReadinessCheck


async def run(
    settings: PersistenceSettings,
    stop: asyncio.Event,
    *,
    projections: Sequence[Projection] | None = None,
    ingest: bool = True,
) -> None:
    """Serve until stopped; wait for Postgres and NATS if they are unavailable.

    `projections` are those that this process keeps up to date, None for all.
    Exits with 1 when the schema or the streams do not match this version.
    """
    startup = Startup(stop)
    health = Health({"start": startup.readiness.check})
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_health(health, settings.health_host, settings.health_port, stop))
        with suppress(ShuttingDown):
            await _serve(
                settings, health, startup, stop, PROJECTIONS if projections is None else projections, ingest
            )


async def _serve(
    settings: PersistenceSettings,
    health: Health,
    startup: Startup,
    stop: asyncio.Event,
    projections: Sequence[Projection],
    ingest: bool,
) -> None:
    async with AsyncExitStack() as stack:
        database = await startup.database(settings, "log", connections=LOG_CONNECTIONS)
        stack.push_async_callback(database.close)
        views = await startup.database(
            settings.model_copy(update={"postgres_dsn": view_dsn(settings.postgres_dsn)}),
            "views",
            connections=VIEW_CONNECTIONS * len(projections) + 1,  # one checks health
        )
        stack.push_async_callback(views.close)
        await startup.schema(database, ingest=ingest, views=bool(projections))
        bus = await startup.bus(
            settings.nats, database, replicas=settings.nats_replicas, max_bytes=settings.stream_max_bytes
        )
        stack.push_async_callback(bus.close)
        health.add("postgres", database.ready)
        health.add("postgres views", views.ready)
        health.add("nats", bus.ready)
        committing, held = _ingest(settings, bus, database, health) if ingest else (None, list)
        work = [committing] if committing else []
        loops = _projections(projections, bus, views, health)
        work += [leased for _, leased in loops]
        building = ReadinessCheck()
        health.add("views", building.check)
        leases = Leases(settings.postgres_dsn, session_seconds=settings.lease_timeout_seconds)
        holding = BackgroundTask(leases.run, name="leases")
        stack.push_async_callback(holding.close)
        health.add("leases", lambda: _check_leases(leases, holding))
        if ingest:
            watch = partial(watch_backlog, bus, held, lambda: leases.connected)
            watching = BackgroundTask(watch, name="backlog")
            stack.push_async_callback(watching.close)
        if ingest and settings.test_session_days:
            erasing = BackgroundTask(
                partial(keep_erasing, database, Audit(bus), settings.test_session_days, stop, {}),
                name="test sessions",
            )
            stack.push_async_callback(erasing.close)
            health.add("test sessions", erasing.ready)
        async with asyncio.TaskGroup() as group:
            builds = keep_built(settings.postgres_dsn, views, projections, building, stop)
            group.create_task(finished(builds, stop, "build views"), name="build views")
            for loop, _ in loops:
                group.create_task(finished(loop.run(stop), stop, loop.name), name=loop.name)
            for name, work_on, readiness in work:
                group.create_task(run_while_leased(leases, name, work_on, readiness, stop), name=name)


def _ingest(
    settings: PersistenceSettings, bus: Bus, database: Database, health: Health
) -> tuple[Leased, Callable[[], list[int]]]:
    writer = GroupWriter(database)
    readiness = ReadinessCheck()
    health.add("ingest", readiness.check)
    options = IngestOptions(settings.ingest_batch, settings.dead_letters_in_a_row)
    partitions = [
        PartitionIngest(partition, bus, database, writer, readiness, options)
        for partition in range(PARTITIONS)
    ]

    async def ingest(partition: int, ended: asyncio.Event) -> None:
        await partitions[partition].run(ended)

    def held() -> list[int]:
        return [partition for partition, each in enumerate(partitions) if each.held]

    return Leased(INGEST, ingest, readiness), held


def _projections(
    projections: Collection[Projection], bus: Bus, views: Database, health: Health
) -> list[tuple[ProjectionLoop, Leased]]:
    loops = []
    event_log = Log(views, bus)  # its followers share one subscription
    for projection in projections:
        title = f"projection {projection.name}"
        readiness = ReadinessCheck(of=title)
        health.add(title, readiness.check)
        loop = ProjectionLoop(projection, views, event_log, readiness)
        loops.append(
            (loop, Leased(projection_group(projection.name, projection.version), loop.hold, readiness))
        )
    return loops


async def _check_leases(leases: Leases, holding: BackgroundTask) -> str:
    holding.check()
    return await leases.check()
