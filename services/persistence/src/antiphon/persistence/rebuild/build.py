"""Build a view in its shadow: fold the log from the start, or from where an earlier build ended, and swap."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.chassis.postgres import connect
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.locks import sessions_with
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import view_dsn
from antiphon.persistence.projection.checkpoint import skips
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.attached import rehearse
from antiphon.persistence.rebuild.fold import STATEMENT_SECONDS, Fold, OnProgress
from antiphon.persistence.rebuild.processes import Work, fold_in_processes
from antiphon.persistence.rebuild.shares import Shares
from antiphon.persistence.rebuild.swap import check_live, swap

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

NEAR_EVENTS = 2_000  # behind the head: the rest is folded while the live view waits
EVENTS_WORTH_PROCESSES = 200_000  # to start one costs a second of a core

_LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0))"

OnBlocked = Callable[[str], object]  # who keeps the finished view from being taken into use


class BuildInProgress(Exception):
    """Another process builds the view; the message names it."""


class Skipped(Exception):
    """An operator made the view skip an event that was folded already: the view is built from the start."""


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
        self._jobs = min(jobs, PARTITIONS)
        self._done = 0.0

    async def run(self, *, restart: bool = False, downgrade: bool = False) -> None:
        """Build the view and take it into use.

        Raises InUse, NewerVersion, Blocked, Skipped, EventFailed, Fenced, DatabaseUnavailable, and any of
        POSTGRES_ERRORS; it can be run again.
        """
        connection, projection = self._connection, self._projection
        await check_live(connection, projection, downgrade=downgrade)
        skipped = await skips(connection, projection)
        created = restart or not await self._goes_on(skipped)
        async with connection.transaction():
            if created:
                await shadow.create(connection, projection, whoami())
            await shadow.leave_out(connection, projection.name, skipped)
            await rehearse(connection, projection)
        await connection.execute(f"set search_path = {shadow.search_path(projection.name)}")
        epoch = await shadow.claim(connection, projection)
        empty = created and not await self._fold_side_by_side(epoch, empty=created)
        fold = Fold(projection, connection, self._log, epoch, empty=empty)
        await fold.begin()
        await self._fold_to_head(fold)
        await shadow.index(connection, projection)
        await self._fold_to_head(fold)

        async def catch_up(until: Cursor) -> None:
            """Fold to a cursor in the transaction of the swap, which may have been rolled back before."""
            if _changed(skipped, await skips(connection, projection), fold.cursor):
                raise Skipped(f"an event of {projection.name} was skipped after the build had folded it")
            if await shadow.positions(connection, projection) != fold.cursor:
                await fold.begin()
            await fold.to(until, self._progress)

        await swap(connection, projection, catch_up, self._on_blocked, downgrade=downgrade)
        self._on_progress(0, 1.0)

    async def _goes_on(self, skipped: shadow.Skips) -> bool:
        """Return whether there is an unfinished build of this code that left out the same events."""
        known = await shadow.read(self._connection, self._projection.name)
        if known is None or known.fingerprint != shadow.fingerprint(self._projection):
            return False
        reached = await shadow.positions(self._connection, self._projection)
        return not _changed(known.skipped, skipped, reached)

    def _progress(self, events: int, done: float) -> None:
        self._done = max(self._done, done)  # the head of the log moves on
        self._on_progress(events, self._done)

    async def _fold_side_by_side(self, epoch: int, *, empty: bool) -> bool:
        """Fold a long log with several processes, one of them this; return whether there was a reason to."""
        if self._jobs == 1:
            return False
        until = await self._log.head()
        reached = await shadow.positions(self._connection, self._projection)
        behind = max(until.after(p) - reached.after(p) for p in range(PARTITIONS))
        if behind < EVENTS_WORTH_PROCESSES:
            return False
        work = Work(
            self._dsn,
            self._projection.name,
            epoch,
            {partition: until.after(partition) for partition in range(PARTITIONS)},
            shadow.fingerprint(self._projection),
            empty,
        )
        shares = Shares(self._jobs, self._progress)

        async def fold_shares() -> None:
            while (share := shares.take()) is not None:
                fold = Fold(
                    self._projection, self._connection, self._log, epoch, partitions=share, empty=empty
                )
                await fold.begin()
                await fold.to(until, shares.progress(share))

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fold_shares(), name="rebuild: fold")
                group.create_task(fold_in_processes(work, shares, self._jobs - 1), name="rebuild: others")
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return True

    async def _fold_to_head(self, fold: Fold) -> None:
        while True:
            head = await self._log.head()
            behind = fold.behind(head)
            await fold.to(head, self._progress)
            if behind <= NEAR_EVENTS:
                break


def _changed(before: shadow.Skips, now: shadow.Skips, reached: Cursor) -> bool:
    """Return whether other events are left out than before, among those that were folded."""
    return any(position <= reached.after(partition) for partition, position in before ^ now)


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
        try:
            await running.run(restart=restart, downgrade=downgrade)
        except Skipped as error:
            log.warning("projection.build_again", projection=projection.name, reason=str(error))
            await connection.execute("reset search_path")
            await running.run(restart=True, downgrade=downgrade)


async def discard(dsn: str, projection: str) -> bool:
    """Drop what an unfinished build has left; return whether there was one.

    Raises BuildInProgress.
    """
    async with locked(dsn, projection) as connection:
        found = await shadow.read(connection, projection) is not None
        await shadow.drop(connection, projection)
    return found
