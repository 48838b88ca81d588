"""Come up in any order: wait for Postgres and NATS, refuse what this version cannot work with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from antiphon.chassis.bus import Bus, BusUnavailable, DefinitionMismatch
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.persistence import migrations
from antiphon.persistence.condition import Condition
from antiphon.persistence.patience import Patience, or_stop

CONNECT_SECONDS = 2.0  # for one try, of as many as it takes

T = TypeVar("T")


class Start:
    """Bring up what the process stands on; its condition says what is still awaited."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.condition = Condition()
        self.condition.starting("nats")
        self.condition.starting("postgres")
        self._stop = stop

    async def database(self, dsn: str, *, connections: int) -> Database:
        """Connect to Postgres.

        Raises Stopped.
        """
        return await self._eventually(
            "postgres",
            lambda: Database.connect(dsn, max_size=connections, connect_timeout_seconds=CONNECT_SECONDS),
        )

    async def bus(self, url: str) -> Bus:
        """Connect to NATS and make the streams that are not there yet.

        Raises Stopped. Exits with 1 when a stream is not as the contract defines it.
        """
        bus = await self._eventually(
            "nats", lambda: Bus.connect(url, name="persistence", connect_timeout_seconds=CONNECT_SECONDS)
        )
        try:
            await self._eventually("nats", bus.ensure)
        except DefinitionMismatch as error:
            raise SystemExit(f"The broker does not hold what the contract defines: {error}") from error
        return bus

    async def schema(self, database: Database) -> None:
        """Check the schema.

        Raises Stopped. Exits with 1 when the schema is not the one that this version needs.
        """
        current = await self._eventually("postgres", lambda: _revision(database))
        if current != (needed := migrations.head()):
            raise SystemExit(
                f"The database is at schema revision {current or 'none'}, this version needs {needed}: "
                "run `python -m antiphon.persistence migrate` first."
            )

    async def _eventually(self, name: str, action: Callable[[], Awaitable[T]]) -> T:
        patience = Patience(self._stop)
        while True:
            try:
                result = await or_stop(action(), self._stop)
            except (DatabaseUnavailable, BusUnavailable) as error:
                self.condition.bad(name, str(error))
                await patience.pause()
            else:
                self.condition.good(name)
                return result


async def _revision(database: Database) -> str | None:
    async with database.transaction() as connection:
        return await migrations.current(connection)
