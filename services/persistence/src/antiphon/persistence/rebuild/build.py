"""Build a view in its shadow: fold the log from the start, or from where an earlier build ended, and swap."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.chassis.postgres import connect
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.locks import sessions_with
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import view_dsn
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.attached import rehearse
from antiphon.persistence.rebuild.fold import STATEMENT_SECONDS, Fold, OnProgress
from antiphon.persistence.rebuild.processes import Work, fold_in_processes
from antiphon.persistence.rebuild.swap import check_live, swap

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

NEAR_EVENTS = 2_000  # positions behind the head: the rest is folded while the live view waits
EVENTS_WORTH_PROCESSES = 300_000  # to start them takes a second

_LEFT = """
select count(*)
  from (select
          from unnest($1::bigint[], $2::bigint[]) with ordinality as part (reached, until, ordinal)
         cross join lateral (
            select from event_log
             where partition = (part.ordinal - 1)::smallint and position > reached and position <= until
             limit $3) as unfolded
         limit $3) as counted
"""
_LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0))"

OnBlocked = Callable[[str], object]  # who keeps the finished view from being taken into use


class BuildInProgress(Exception):
    """Another process builds the view; the message names it."""


class Build:
    """A build of one view, with the connection that holds its lock and writes the shadow."""

    def __init__(
        self,
        projection: Projection,
        dsn: str,
        connection: "Connection",
        database: Database,
        on_progress: OnProgress,
        on_blocked: OnBlocked,
        jobs: int,
    ) -> None:
        self._projection = projection
        self._dsn = dsn
        self._connection = connection
        self._log = Log(database, None)
        self._on_progress = on_progress
        self._on_blocked = on_blocked
        self._jobs = jobs

    async def run(self, *, restart: bool = False, downgrade: bool = False) -> None:
        """Build the view and take it into use.

        Raises InUse, NewerVersion, Blocked, EventFailed, Fenced, DatabaseUnavailable, and any of
        POSTGRES_ERRORS; it can be run again.
        """
        connection, projection = self._connection, self._projection
        await check_live(connection, projection, downgrade=downgrade)
        known = await shadow.read(connection, projection.name)
        created = restart or known is None or known.fingerprint != shadow.fingerprint(projection)
        async with connection.transaction():
            if created:
                await shadow.create(connection, projection, whoami())
            await rehearse(connection, projection)
        await connection.execute(f"set search_path = {shadow.search_path(projection.name)}")
        epoch = await shadow.claim(connection, projection)
        if self._jobs > 1:
            await self._fold_in_processes(epoch, empty=created)
            created = False
        fold = Fold(projection, connection, self._log, epoch, empty=created)
        await fold.begin()
        await self._fold_to_head(fold)
        await shadow.index(connection, projection)
        await self._fold_to_head(fold)

        async def catch_up(until: Cursor) -> None:
            """Fold to a cursor in the transaction of the swap, which may have been rolled back before."""
            if await shadow.positions(connection, projection) != fold.cursor:
                await fold.begin()
            await fold.to(until, self._on_progress)

        await swap(connection, projection, catch_up, self._on_blocked, downgrade=downgrade)
        self._on_progress(0, 1.0)

    async def _fold_in_processes(self, epoch: int, *, empty: bool) -> None:
        until = await self._log.head()
        reached = await shadow.positions(self._connection, self._projection)
        if await self._left(reached, until) >= EVENTS_WORTH_PROCESSES:
            positions = {partition: until.after(partition) for partition in range(PARTITIONS)}
            work = Work(self._dsn, self._projection.name, epoch, positions, empty)
            await fold_in_processes(work, self._jobs, self._on_progress)

    async def _left(self, reached: Cursor, until: Cursor) -> int:
        """Return how many events are left, at most EVENTS_WORTH_PROCESSES.

        Positions are those of the stream: a partition has an event at one of 16, and fewer after a gap.
        """
        starts = [reached.after(p) for p in range(PARTITIONS)]
        ends = [until.after(p) for p in range(PARTITIONS)]
        left: int = await self._connection.fetchval(_LEFT, starts, ends, EVENTS_WORTH_PROCESSES)
        return left

    async def _fold_to_head(self, fold: Fold) -> None:
        while True:
            head = await self._log.head()
            behind = fold.behind(head)
            await fold.to(head, self._on_progress)
            if behind <= NEAR_EVENTS:
                break


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
    jobs: int = 1,
    on_progress: OnProgress = lambda _, __: None,
    on_blocked: OnBlocked = lambda _: None,
) -> None:
    """Build a view in its shadow and take it into use (see Build.run).

    With more than one job, so many processes fold the partitions of a long log; the projection must then
    be one of PROJECTIONS. Raises BuildInProgress too.
    """
    async with locked(dsn, projection.name) as connection:
        running = Build(projection, dsn, connection, database, on_progress, on_blocked, jobs)
        await running.run(restart=restart, downgrade=downgrade)


async def discard(dsn: str, projection: str) -> bool:
    """Drop what an unfinished build has left; return whether there was one.

    Raises BuildInProgress.
    """
    async with locked(dsn, projection) as connection:
        found = await shadow.read(connection, projection) is not None
        await shadow.drop(connection, projection)
    return found
