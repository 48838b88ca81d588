"""Build a view in its shadow: fold the log from the start, or from where an earlier build ended, and swap."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.chassis.postgres import connect
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, partition_of
from antiphon.persistence.leases.locks import sessions_with
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import Advance, folded, view_dsn, write_of
from antiphon.persistence.projection.checkpoint import skips
from antiphon.persistence.projection.rows import Cache
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.attached import rehearse
from antiphon.persistence.rebuild.swap import check_live, swap
from antiphon.persistence.rebuild.write_behind import WriteBehind, grouped, write_behind

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

PAGE = 4_000  # events that are read at once, at most
BATCH = 8_000  # events in one transaction: a row that changes several times is written once
BATCH_BYTES = 16 << 20
MAX_CACHED_BYTES = 128 << 20
NEAR_EVENTS = 2_000  # positions behind the head: the rest is folded while the live view waits
STATEMENT_SECONDS = 120.0

_LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0))"

OnBlocked = Callable[[str], object]  # who keeps the finished view from being taken into use
OnProgress = Callable[[int, float], None]  # events folded since the last call, and the part that is done


class BuildInProgress(Exception):
    """Another process builds the view; the message names it."""


class Build:
    """A build of one view, with the connection that holds its lock and writes the shadow."""

    def __init__(
        self,
        projection: Projection,
        connection: "Connection",
        database: Database,
        on_progress: OnProgress,
        on_blocked: OnBlocked,
    ) -> None:
        self._projection = projection
        self._connection = connection
        self._log = Log(database, None)
        self._on_progress = on_progress
        self._on_blocked = on_blocked
        self._cache = Cache(MAX_CACHED_BYTES)
        self._cursor = Cursor()
        self._epoch = 0
        self._skips: Collection[tuple[int, int]] = ()

    async def run(self, *, restart: bool = False, downgrade: bool = False) -> None:
        """Build the view and take it into use.

        Raises InUse, NewerVersion, Blocked, EventFailed, Fenced, DatabaseUnavailable, and any of
        POSTGRES_ERRORS; it can be run again.
        """
        await check_live(self._connection, self._projection, downgrade=downgrade)
        known = await shadow.read(self._connection, self._projection.name)
        created = restart or known is None or known.fingerprint != shadow.fingerprint(self._projection)
        async with self._connection.transaction():
            if created:
                await shadow.create(self._connection, self._projection, whoami())
            await rehearse(self._connection, self._projection)
        await self._connection.execute(f"set search_path = {shadow.search_path(self._projection.name)}")
        self._cursor, self._epoch = await shadow.claim(self._connection, self._projection)
        self._skips = await skips(self._connection, self._projection)
        if created:
            self._cache = Cache(MAX_CACHED_BYTES, complete=True)
        await self._fold_to_head()
        await shadow.index(self._connection, self._projection)
        await self._fold_to_head()
        await swap(self._connection, self._projection, self._catch_up, self._on_blocked, downgrade=downgrade)
        self._on_progress(0, 1.0)

    async def _fold_to_head(self) -> None:
        while True:
            head = await self._log.head()
            behind = sum(head.after(p) - self._cursor.after(p) for p in range(PARTITIONS))
            await self._fold_to(head)
            if behind <= NEAR_EVENTS:
                break

    async def _catch_up(self, until: Cursor) -> None:
        """Fold to a cursor in the transaction of the swap, which may have been rolled back before."""
        stored = await shadow.positions(self._connection, self._projection)
        if stored != self._cursor:
            self._cursor, self._cache = stored, Cache(MAX_CACHED_BYTES)
        await self._fold_to(until)

    async def _fold_to(self, until: Cursor) -> None:
        start = self._cursor
        width = sum(max(0, until.after(p) - start.after(p)) for p in range(PARTITIONS))
        batches = self._log.read(start, until, types=self._projection.types, batch=PAGE, prefetch=True)
        try:
            async with aclosing(batches), write_behind(self._connection) as behind:
                async for batch in grouped(batches, BATCH, BATCH_BYTES):
                    await self._apply(batch.envelopes, batch.cursor, behind)
                    left = sum(max(0, until.after(p) - self._cursor.after(p)) for p in range(PARTITIONS))
                    self._on_progress(len(batch.envelopes), 1 - left / width if width else 1.0)
        except BaseException:
            self._cache = Cache(MAX_CACHED_BYTES)  # it may have rows that were not written
            raise

    async def _apply(self, envelopes: Sequence[Envelope], cursor: Cursor, behind: WriteBehind) -> None:
        if self._skips:
            envelopes = [e for e in envelopes if (partition_of(e.subject), e.position) not in self._skips]
        moved = [p for p in range(PARTITIONS) if cursor.after(p) > self._cursor.after(p)]
        advance = Advance(
            self._projection.name,
            moved,
            epochs=[self._epoch] * len(moved),
            expected=[self._cursor.after(p) for p in moved],
            reached=[cursor.after(p) for p in moved],
        )
        if moved:
            rows = await folded(self._projection, behind, envelopes, self._cache)
            await behind.write(write_of(self._projection, rows, advance))
            rows.keep()
            self._cache.trim(envelopes)
        self._cursor = cursor


@asynccontextmanager
async def locked(dsn: str, projection: str) -> AsyncIterator["Connection"]:
    """Open a connection that builds a view, and no other process may meanwhile.

    Raises BuildInProgress, and what asyncpg raises.
    """
    async with AsyncExitStack() as stack:
        connection = await connect(
            view_dsn(dsn),
            name=f"persistence rebuild {projection} {whoami()}",
            statement_seconds=STATEMENT_SECONDS,
        )
        stack.callback(connection.terminate)
        lock = f"rebuild:{projection}"
        if not await connection.fetchval(_LOCK, lock):
            holder = await builder(connection, projection)
            raise BuildInProgress(f"{projection} is being built by {holder or 'another process'}")
        yield connection


async def builder(connection: "Connection", projection: str) -> str | None:
    """Return who builds a view now, None if nobody does."""
    rows = await sessions_with(connection, [f"rebuild:{projection}"])
    return next((f"{row['application_name']} (backend {row['pid']})" for row in rows), None)


def whoami() -> str:
    """Return the host and the process."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def build(
    dsn: str,
    database: Database,
    projection: Projection,
    *,
    restart: bool = False,
    downgrade: bool = False,
    on_progress: OnProgress = lambda _, __: None,
    on_blocked: OnBlocked = lambda _: None,
) -> None:
    """Build a view in its shadow and take it into use (see Build.run).

    Raises BuildInProgress too.
    """
    async with locked(dsn, projection.name) as connection:
        await Build(projection, connection, database, on_progress, on_blocked).run(
            restart=restart, downgrade=downgrade
        )
    log.info("projection.built", projection=projection.name, version=projection.version)


async def discard(dsn: str, projection: str) -> bool:
    """Drop what an unfinished build has left; return whether there was one.

    Raises BuildInProgress.
    """
    async with locked(dsn, projection) as connection:
        found = await shadow.read(connection, projection) is not None
        await shadow.drop(connection, projection)
    return found
