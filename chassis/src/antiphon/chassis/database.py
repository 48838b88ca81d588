"""The Postgres pool: connect with patience, transact in one line, say plainly when it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

CONNECT_DEADLINE_SECONDS = 15.0
COMMAND_DEADLINE_SECONDS = 30.0
READY_DEADLINE_SECONDS = 2.0
RETRY_SECONDS = 0.25

# What asyncpg raises when the server is away, starting, stopping, or full. An InterfaceError may also be our
# own mistake: `translate_errors` tells the two apart.
TRANSIENT: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke in the middle of an answer
)


class DatabaseUnavailable(Exception):
    """Postgres did not answer."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what asyncpg raises when Postgres is away into DatabaseUnavailable, and nothing else."""
    try:
        yield
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # "connection is closed", "pool is closing"
            raise
        raise DatabaseUnavailable(repr(error)) from error
    except TRANSIENT as error:
        raise DatabaseUnavailable(repr(error)) from error


class Database:
    """Hold the pool of connections of one process."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        min_size: int = 1,
        max_size: int = 8,
        connect_timeout_seconds: float = CONNECT_DEADLINE_SECONDS,
    ) -> "Database":
        """Open the pool, waiting for a server that is still starting.

        Raises DatabaseUnavailable after the deadline.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + connect_timeout_seconds
        while True:
            try:
                pool = await asyncpg.create_pool(
                    dsn,
                    min_size=min_size,
                    max_size=max_size,
                    timeout=5,
                    command_timeout=COMMAND_DEADLINE_SECONDS,
                    reset=_nothing_to_reset,
                )
            except TRANSIENT as error:
                if loop.time() + RETRY_SECONDS >= deadline:
                    raise DatabaseUnavailable(
                        f"Postgres did not answer within {connect_timeout_seconds:g} s: {error!r}"
                    ) from error
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return cls(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Connection"]:
        """Run the block in one transaction: commit at its end, roll back on any error.

        Raises DatabaseUnavailable.
        """
        with translate_errors():
            async with self.pool.acquire() as connection, connection.transaction():
                yield connection

    async def ready(self, *, timeout_seconds: float = READY_DEADLINE_SECONDS) -> None:
        """Prove by a round trip that Postgres answers.

        Raises DatabaseUnavailable.
        """
        with translate_errors():
            async with asyncio.timeout(timeout_seconds):
                await self.pool.fetchval("select 1")

    async def close(self) -> None:
        """Give the connections back, within a few seconds."""
        try:
            async with asyncio.timeout(5):
                await self.pool.close()
        except TRANSIENT:
            self.pool.terminate()


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Spare each use of the pool a round trip: nobody sets, listens or locks in a pooled session.

    A transaction that is still open is rolled back in any case.
    """


async def clone_template(admin_dsn: str, template: str, name: str) -> None:
    """Make a database as a copy of a template that nobody is connected to."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(f'create database "{name}" template "{template}"')
    finally:
        await connection.close()
