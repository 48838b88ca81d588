"""The Postgres pool: connecting with retries, transactions, and one error for an unavailable server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg

from antiphon.chassis.pool import ACQUIRE_SECONDS, BoundedPool
from antiphon.chassis.postgres import CLIENT_MARGIN_SECONDS, STATEMENT_SECONDS, advice
from antiphon.chassis.postgres_metrics import watch_pool
from antiphon.chassis.retry import retrying

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]

CONNECT_DEADLINE_SECONDS = 15.0
LONGEST_CONNECT_BACKOFF_SECONDS = 0.5
READY_DEADLINE_SECONDS = 2.0
CLOSE_DEADLINE_SECONDS = 5.0

# What asyncpg raises when the server is unreachable, starting, stopping, or full. An InterfaceError may also
# be a mistake of the caller: `translate_errors` distinguishes the two.
TRANSIENT: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a demoted primary: the pool opens its connections again
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection broke in the middle of an answer
)


class DatabaseUnavailable(Exception):
    """Postgres did not answer."""


class DatabaseRefused(Exception):
    """The DSN is wrong, or the user and password in it: trying again does not help."""


# What asyncpg raises for them. The first is an InterfaceError too, but no outage.
REFUSED: tuple[type[Exception], ...] = (
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,  # and InvalidPasswordError
    asyncpg.InvalidCatalogNameError,
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise DatabaseUnavailable for the errors of an unavailable server; pass all others on."""
    try:
        yield
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # "connection is closed", "pool is closing"
            raise
        raise DatabaseUnavailable(repr(error)) from error
    except asyncpg.InsufficientPrivilegeError as error:  # an operator grants it, as they start a server
        raise DatabaseUnavailable(f"Postgres refuses: {error}") from error
    except TRANSIENT as error:
        raise DatabaseUnavailable(f"{error!r}{advice(error)}") from error


@contextmanager
def _translate_errors_of_a_pool() -> Iterator[None]:
    """As `translate_errors`; the DSN was right once, so a refusal is an outage: a new server is set up."""
    try:
        with translate_errors():
            yield
    except (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise DatabaseUnavailable(f"Postgres refuses connections: {error}{advice(error)}") from error


class Database:
    """The connection pool of a process."""

    def __init__(self, pool: BoundedPool, name: str = "antiphon") -> None:
        self.pool = pool
        self._unwatch = watch_pool(pool, name)

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        name: str = "antiphon",
        min_size: int = 1,
        max_size: int = 8,
        connect_timeout_seconds: float = CONNECT_DEADLINE_SECONDS,
        acquire_timeout_seconds: float = ACQUIRE_SECONDS,
        statement_timeout_seconds: float = STATEMENT_SECONDS,
        client_margin_seconds: float = CLIENT_MARGIN_SECONDS,
    ) -> "Database":
        """Open the pool; retry while the server is starting. Postgres shows `name` for each connection.

        A server that hangs is unavailable after the time of a statement, and twice the client's margin.

        Raises DatabaseUnavailable after the deadline, DatabaseRefused at once.
        """

        async def create_pool() -> BoundedPool:
            pool = BoundedPool(
                dsn,
                name=name,
                min_size=min_size,
                max_size=max_size,
                acquire_seconds=acquire_timeout_seconds,
                statement_seconds=statement_timeout_seconds,
                client_margin_seconds=client_margin_seconds,
            )
            try:
                await pool
            except REFUSED as error:
                raise DatabaseRefused(f"check ANTIPHON_POSTGRES_DSN: {error}") from error
            return pool

        retry = retrying(
            *TRANSIENT,
            timeout_seconds=connect_timeout_seconds,
            longest_seconds=LONGEST_CONNECT_BACKOFF_SECONDS,
        )
        try:
            return cls(await retry(create_pool), name)
        except TRANSIENT as error:
            text = f"Postgres did not answer within {connect_timeout_seconds:g} s: {error!r}{advice(error)}"
            if isinstance(error, asyncpg.ConnectionDoesNotExistError):  # TLS 1.3 says no more
                text += " (if the server demands a certificate of the client, check sslcert in the DSN)"
            raise DatabaseUnavailable(text) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Connection"]:
        """Run the block in one transaction: commit at its end, roll back on any error.

        Raises DatabaseUnavailable.
        """
        with _translate_errors_of_a_pool():
            async with self.pool.acquire() as connection, connection.transaction():
                yield connection

    async def ready(self, *, timeout_seconds: float = READY_DEADLINE_SECONDS) -> None:
        """Check by a round trip that a connection is free and that Postgres answers.

        Raises DatabaseUnavailable.
        """
        with _translate_errors_of_a_pool():
            async with self.pool.acquire(timeout=timeout_seconds) as connection:
                await connection.fetchval("select 1", timeout=timeout_seconds)

    async def close(self) -> None:
        """Close all connections, within a few seconds."""
        self._unwatch()
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_SECONDS):
                await self.pool.close()
        except TRANSIENT:
            self.pool.terminate()
