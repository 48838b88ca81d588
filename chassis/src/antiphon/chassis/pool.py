"""The pool of connections to Postgres: waiting for one has a deadline, and stale ones are replaced."""

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import Pool, PoolAcquireContext

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.postgres import CLIENT_MARGIN_SECONDS, CONNECT_SECONDS, keep_alive, server_settings
from antiphon.chassis.postgres_dsn import current_dsn
from antiphon.chassis.postgres_metrics import time_statements
from antiphon.chassis.postgres_tls import naming_files
from antiphon.chassis.sql_spans import log_queries

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    _Pool = Pool[asyncpg.Record]
    _PoolAcquireContext = PoolAcquireContext[asyncpg.Record]
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Pool, _PoolAcquireContext = Pool, PoolAcquireContext

log = get_logger(__name__)

ACQUIRE_SECONDS = 5.0
MAX_QUERIES = 50_000  # of one connection, then it is replaced
MAX_IDLE_SECONDS = 300.0


class PoolExhausted(TimeoutError):
    """No connection became free in time."""


class _Acquiring(_PoolAcquireContext):
    """One use of a connection."""

    __slots__ = ()
    pool: "BoundedPool"

    async def __aenter__(self) -> "PoolConnectionProxy[asyncpg.Record]":
        try:
            return await super().__aenter__()
        except TimeoutError:
            raise self.pool.no_connection(self.timeout) from None

    async def __aexit__(self, *raised: object) -> None:
        connection = self.connection
        if connection is not None and isinstance(raised[1], asyncpg.ReadOnlySQLTransactionError):
            # The server was demoted: every connection to it refuses writes until it is opened again.
            log.warning("postgres.read_only", extra={"error": str(raised[1])})
            connection.terminate()
            await self.pool.expire_connections()
        self.done, self.connection = True, None
        if connection is not None:
            # A server that hangs does not answer to the cancellation of a statement either.
            limits = (self.timeout, self.pool.release_seconds)
            await self.pool.release(connection, timeout=min(filter(None, limits)))


class BoundedPool(_Pool):
    """An asyncpg pool whose `acquire`, `fetch` and `execute` wait for a connection for a limited time."""

    __slots__ = ("acquire_seconds", "release_seconds")

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        min_size: int,
        max_size: int,
        acquire_seconds: float,
        statement_seconds: float,
        client_margin_seconds: float = CLIENT_MARGIN_SECONDS,
    ) -> None:
        super().__init__(
            dsn,
            min_size=min_size,
            max_size=max_size,
            max_queries=MAX_QUERIES,
            max_inactive_connection_lifetime=MAX_IDLE_SECONDS,
            connect=_connect,  # type: ignore[arg-type] # its type names the arguments one by one
            init=_prepare,
            reset=_skip_reset,
            loop=asyncio.get_running_loop(),
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_seconds + client_margin_seconds,
            server_settings=server_settings(current_dsn(dsn), name, statement_seconds),
        )
        self.acquire_seconds = acquire_seconds
        self.release_seconds = client_margin_seconds

    def acquire(self, *, timeout: float | None = None) -> "_Acquiring":
        """Acquire a connection, for `async with`.

        Raises PoolExhausted.
        """
        return _Acquiring(self, self.acquire_seconds if timeout is None else timeout)

    def no_connection(self, seconds: float | None) -> PoolExhausted:
        """Return the error for a connection that was not free in time."""
        limit = self.get_max_size()
        if self.get_size() == limit and self.get_idle_size() == 0:
            return PoolExhausted(f"all {limit} connections were in use for {seconds:g} s")
        return PoolExhausted(f"Postgres accepted no connection within {seconds:g} s")


async def _connect(dsn: str, **options: Any) -> "_Connection":
    dsn = current_dsn(dsn)
    with naming_files(dsn):
        connection: _Connection = await asyncpg.connect(dsn, **options)
    return connection


async def _prepare(connection: "_Connection") -> None:
    await keep_alive(connection)
    time_statements(connection)
    log_queries(connection)


async def _skip_reset(connection: "_Connection") -> None:
    """Skip the reset, a round trip per use of the pool: no code sets, listens or locks in a pooled session.

    asyncpg rolls an open transaction back in any case.
    """
