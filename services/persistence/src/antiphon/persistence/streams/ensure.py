"""Make the stream, its consumers and the buckets before the services start, as `run` does."""

import asyncio

from antiphon.chassis.bus import BusError
from antiphon.chassis.database import DatabaseRefused
from antiphon.contracts.streams import BUCKETS, CONSUMERS, SESSIONS
from antiphon.persistence.errors import POSTGRES_ERRORS, NotReady
from antiphon.persistence.ingest.stream_check import RECREATE
from antiphon.persistence.settings import EnsureSettings
from antiphon.persistence.startup import Startup

WAIT_SECONDS = 60.0  # for servers that start at the same time
CONNECTIONS = 2


async def ensure(settings: EnsureSettings) -> str:
    """Create what is missing, verify the rest, and return what there is.

    Exits with 1 when a server does not answer in time, or what exists is not what this version needs.
    """
    startup = Startup(asyncio.Event())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await _ensure(settings, startup)
    except TimeoutError as error:
        raise SystemExit(f"After {WAIT_SECONDS:g} s, {await _missing(startup)}. Run it again.") from error
    except (BusError, DatabaseRefused) as error:
        raise SystemExit(str(error)) from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres: {error!r}") from error


async def _ensure(settings: EnsureSettings, startup: Startup) -> str:
    database = await startup.database(settings, "streams", connections=CONNECTIONS)
    try:
        await startup.schema(database)
        bus = await startup.bus(
            settings.nats, database, replicas=settings.nats_replicas, max_bytes=settings.stream_max_bytes
        )
        try:
            stream = await bus.stream_state()
        finally:
            await bus.close()
    finally:
        await database.close()
    if stream is None:  # the services start without it too, and say so
        return f"{len(BUCKETS)} buckets. Stream {SESSIONS.name} does not exist, and was read: {RECREATE}."
    return f"Stream {SESSIONS.name}, {len(CONSUMERS)} consumers, {len(BUCKETS)} buckets."


async def _missing(startup: Startup) -> str:
    try:
        await startup.readiness.check()
    except NotReady as error:
        return str(error)
    return "the servers had not answered"
