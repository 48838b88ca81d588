"""Start in any order: wait for Postgres and NATS, and check that schema and streams match this version."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from antiphon.chassis.bus import Bus, BusUnavailable, DefinitionMismatch
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import wait_or_stop
from antiphon.persistence import migrations
from antiphon.persistence.readiness import ReadinessCheck

CONNECT_SECONDS = 2.0  # per attempt

T = TypeVar("T")


class Startup:
    """The connections that the process needs; its readiness check names those that are missing."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.readiness = ReadinessCheck()
        self.readiness.starting("nats")
        self.readiness.starting("postgres")
        self._stop = stop

    async def database(self, dsn: str, *, connections: int) -> Database:
        """Connect to Postgres.

        Raises ShuttingDown.
        """
        return await self._retry(
            "postgres",
            lambda: Database.connect(dsn, max_size=connections, connect_timeout_seconds=CONNECT_SECONDS),
        )

    async def bus(self, access: NatsAccess, *, replicas: int | None) -> Bus:
        """Connect to NATS and create the streams that are missing.

        Raises ShuttingDown. Exits with 1 when a stream differs from its definition.
        """
        bus = await self._retry(
            "nats", lambda: Bus.connect(access, name="persistence", connect_timeout_seconds=CONNECT_SECONDS)
        )
        try:
            await self._retry("nats", lambda: bus.ensure(replicas=replicas))
        except DefinitionMismatch as error:
            raise SystemExit(f"The streams of the broker do not match the contract: {error}") from error
        return bus

    async def schema(self, database: Database) -> None:
        """Check the revision of the schema.

        Raises ShuttingDown. Exits with 1 when this version needs another revision.
        """
        current = await self._retry("postgres", lambda: _revision(database))
        if current != (needed := migrations.head()):
            raise SystemExit(
                f"The database is at schema revision {current or 'none'}, this version needs {needed}: "
                "run `python -m antiphon.persistence migrate` first."
            )

    async def _retry(self, name: str, action: Callable[[], Awaitable[T]]) -> T:
        async def attempt() -> T:
            return await wait_or_stop(action(), self._stop)

        policy = retrying(
            DatabaseUnavailable,
            BusUnavailable,
            on_retry=lambda error, _: self.readiness.unhealthy(name, str(error)),
            stop=self._stop,
        )
        result: T = await policy(attempt)
        self.readiness.healthy(name)
        return result


async def _revision(database: Database) -> str | None:
    async with database.transaction() as connection:
        return await migrations.current(connection)
