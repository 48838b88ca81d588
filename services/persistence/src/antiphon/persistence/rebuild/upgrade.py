"""Build the views that this version of the code needs and the database lacks, beside the live ones."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from antiphon.chassis.database import TRANSIENT, Database, DatabaseUnavailable
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.projection import Projection
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import BuildInProgress, OnBlocked, build
from antiphon.persistence.rebuild.fold import OnProgress
from antiphon.persistence.rebuild.swap import NewerVersion

log = structlog.get_logger(__name__)

AT_ONCE = 2  # builds of one process
WAIT_SECONDS = 2.0  # while another replica builds a view
LONGEST_BACKOFF_SECONDS = 30.0
REPORT_SECONDS = 10.0
LOOK_SECONDS = 5.0  # between two looks whether a view is missing again

AWAY: tuple[type[Exception], ...] = (DatabaseUnavailable, *POSTGRES_ERRORS)

_VERSION = "select version from projections where name = $1"
_VERSIONS = "select name, version from projections"


async def live_version(database: Database, projection: Projection) -> int | None:
    """Return the version of the code that built the live view, None if there is none."""
    version: int | None = await database.pool.fetchval(_VERSION, projection.name)
    return version


async def keep_built(
    dsn: str,
    database: Database,
    projections: Sequence[Projection],
    readiness: ReadinessCheck,
    stop: asyncio.Event,
) -> None:
    """Build each view that is missing, until stopped: a database that is restored may lack views again."""
    missing: Sequence[Projection] = projections
    with suppress(ShuttingDown):
        while True:
            if missing:
                await build_missing(dsn, database, missing, readiness, stop)
            await wait_or_stop(asyncio.sleep(LOOK_SECONDS), stop)
            missing = await _missing(database, projections)


async def _missing(database: Database, projections: Sequence[Projection]) -> list[Projection]:
    try:
        live = {row["name"]: row["version"] for row in await database.pool.fetch(_VERSIONS)}
    except AWAY:  # the views report it
        return []
    return [p for p in projections if live.get(p.name) is None or live[p.name] < p.version]


async def build_missing(
    dsn: str,
    database: Database,
    projections: Sequence[Projection],
    readiness: ReadinessCheck,
    stop: asyncio.Event,
) -> None:
    """Build each view that does not exist in the version of this code; return when all are there.

    A view of a later version is left alone. Several replicas share the work: each view is built by one. A
    build that fails is tried again, and the others go on meanwhile.
    """
    places = asyncio.Semaphore(AT_ONCE)
    for projection in projections:
        readiness.starting(_component(projection), "waits for the builds before it")
    await asyncio.gather(*(_keep_trying(dsn, database, p, readiness, stop, places) for p in projections))


async def _keep_trying(
    dsn: str,
    database: Database,
    projection: Projection,
    readiness: ReadinessCheck,
    stop: asyncio.Event,
    places: asyncio.Semaphore,
) -> None:
    retry = retrying(
        Exception,
        on_retry=partial(_report, readiness, projection),
        stop=stop,
        longest_seconds=LONGEST_BACKOFF_SECONDS,
    )
    with suppress(ShuttingDown):
        await retry(_build_if_missing, dsn, database, projection, readiness, stop, places)


async def _build_if_missing(
    dsn: str,
    database: Database,
    projection: Projection,
    readiness: ReadinessCheck,
    stop: asyncio.Event,
    places: asyncio.Semaphore,
) -> None:
    component = _component(projection)
    reported = time.monotonic()

    def on_progress(_: int, done: float) -> None:
        nonlocal reported
        readiness.starting(component, f"is being built in version {projection.version}: {done:.0%}")
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            log.info("projection.building", projection=projection.name, done=round(done, 3))

    def on_blocked(holder: str) -> None:
        log.info("projection.swap_blocked", projection=projection.name, holder=holder)
        readiness.starting(component, f"is built in version {projection.version}, and waits for {holder}")

    live: int | None = None
    while live is None:
        building = _build_or_leave(dsn, database, projection, places, on_progress, on_blocked)
        try:
            live = await wait_or_stop(building, stop)
        except BuildInProgress as error:
            readiness.starting(component, f"waits: {error}")
            await wait_or_stop(asyncio.sleep(WAIT_SECONDS), stop)
    if live > projection.version:
        log.warning(
            "projection.superseded", projection=projection.name, live=live, version=projection.version
        )
    readiness.healthy(component)


async def _build_or_leave(
    dsn: str,
    database: Database,
    projection: Projection,
    places: asyncio.Semaphore,
    on_progress: OnProgress,
    on_blocked: OnBlocked,
) -> int | None:
    """Build the view unless it is there; return its live version, None to look again."""
    async with places:  # not kept while another process builds, nor between attempts
        live = await live_version(database, projection)
        if live is not None and live >= projection.version:
            return live
        log.info("projection.build", projection=projection.name, live=live, version=projection.version)
        try:
            await build(dsn, database, projection, on_progress=on_progress, on_blocked=on_blocked)
        except NewerVersion:
            return None
        log.info("projection.built", projection=projection.name, version=projection.version)
        return projection.version


def _report(readiness: ReadinessCheck, projection: Projection, error: BaseException, _: int) -> None:
    if isinstance(error, ShuttingDown):
        return
    readiness.unhealthy(_component(projection), f"cannot be built: {error!r}")
    if not isinstance(error, (DatabaseUnavailable, *TRANSIENT)):
        log.error("projection.build_failed", projection=projection.name, exc_info=error)


def _component(projection: Projection) -> str:
    return f"view {projection.name}"
