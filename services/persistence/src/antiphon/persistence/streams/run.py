"""Run a command of an operator with a bus and a database, and exit with the reason when it fails."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.settings import RecreateSettings, StatusSettings
from antiphon.persistence.streams.recreate import Refused

CONNECT_SECONDS = 5.0

T = TypeVar("T")


async def with_servers(
    settings: StatusSettings | RecreateSettings, command: Callable[[Bus, Database], Awaitable[T]]
) -> T:
    """Return the result of a command. Exits with 1 when a server fails or the command is refused."""
    try:
        return await _connected(settings, command)
    except (BusError, DatabaseRefused, DatabaseUnavailable, SchemaMismatch, Refused) as error:
        raise SystemExit(str(error)) from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres: {error!r}") from error


async def _connected(
    settings: StatusSettings | RecreateSettings, command: Callable[[Bus, Database], Awaitable[T]]
) -> T:
    database = await Database.connect(
        settings.postgres_dsn, max_size=3, connect_timeout_seconds=CONNECT_SECONDS
    )
    try:
        async with database.transaction() as connection:
            await check(connection)
        bus = await Bus.connect(
            settings.nats, name="persistence streams", connect_timeout_seconds=CONNECT_SECONDS
        )
        try:
            return await command(bus, database)
        finally:
            await bus.close()
    finally:
        await database.close()
