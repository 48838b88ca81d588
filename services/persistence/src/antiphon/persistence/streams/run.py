"""Run a command of an operator with a bus and a database, and exit with the reason when it fails."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from antiphon.chassis.audit import Audit, operator
from antiphon.chassis.bus import Bus, BusError, StorageTooSmall
from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.contracts.audit import DEPLOYMENT, Act, ActKind
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.settings import RecreateSettings, StatusSettings
from antiphon.persistence.streams.recreate import Refused

CONNECT_SECONDS = 5.0

T = TypeVar("T")
Command = Callable[[Bus, Database], Awaitable[T]]


async def with_servers(settings: StatusSettings | RecreateSettings, command: Command[T]) -> T:
    """Return the result of a command. Exits with 1 when a server fails or the command is refused."""
    try:
        return await _connected(settings, command)
    except (BusError, DatabaseRefused, DatabaseUnavailable, SchemaMismatch, Refused) as error:
        raise SystemExit(str(error)) from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres: {error!r}") from error


def on_record(kind: ActKind, target: str, command: Command[T]) -> Command[T]:
    """Return a command that is done only if the record of it is stored first."""

    async def recorded(bus: Bus, database: Database) -> T:
        await bus.ensure_buckets()  # a broker that lost its data has none, also for the record
        act = Act(kind, DEPLOYMENT, operator(), target)
        async with Audit(bus).recorded(act, Refused, StorageTooSmall):
            return await command(bus, database)

    return recorded


async def _connected(settings: StatusSettings | RecreateSettings, command: Command[T]) -> T:
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
