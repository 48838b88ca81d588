"""A projection: what it is, and the one loop that keeps its view."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import structlog

from antiphon.chassis.bus import BusError
from antiphon.chassis.database import TRANSIENT, Database, DatabaseUnavailable
from antiphon.chassis.log import Log
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.condition import Condition
from antiphon.persistence.keep import FENCED, Fenced
from antiphon.persistence.patience import Interruptible, Patience, Stopped

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

BATCH = 500  # events at most of one partition in one transaction
REST_SECONDS = 0.0015  # between two batches: what comes meanwhile costs no transaction of its own

_BEGIN = """
insert into projection_checkpoints (projection, partition, position)
select $1, partition, 0 from generate_series(0, $2::integer) as partition
on conflict do nothing
"""
_READ = "select partition, position from projection_checkpoints where projection = $1"
_MOVE = "select move_projection($1, $2, $3, $4)"

KEPT_IN_MIND = 5_000  # rows at most

Columns = Sequence[Sequence[Any]]  # of the rows to write; none at all when there is nothing to write
Memory = dict[str, Any]
Fold = Callable[["Connection", Sequence[Envelope], Memory], Awaitable[Columns]]


class Move(NamedTuple):
    """Say how a projection's checkpoint moves: from where it must be, to where it will be."""

    projection: str
    partitions: list[int]
    expected: list[int]
    reached: list[int]


@dataclass(frozen=True, slots=True)
class Projection:
    """Name a view, the function that folds events into columns, and the statement that writes them.

    The function gets committed envelopes, in order within each session, and may read its own view. What it
    has read or written it may keep in the memory, which is emptied whenever something goes wrong. The
    statement moves the checkpoint ($1 to $4: a Move), writes the columns ($5 and on), and leaves a row alone
    that has seen an event already: it may be given the same events again.
    """

    name: str
    fold: Fold
    write: str

    async def apply(
        self, connection: "Connection", envelopes: Sequence[Envelope], move: Move, memory: Memory
    ) -> None:
        """Fold events, write the rows and move the checkpoint: one statement, one transaction."""
        columns = await self.fold(connection, envelopes, memory)
        if columns:
            await connection.execute(self.write, *move, *columns)
        else:
            await connection.execute(_MOVE, *move)


def transposed(rows: Iterable[Sequence[Any]]) -> Columns:
    """Turn rows into columns."""
    return list(zip(*rows, strict=True))


class ProjectionLoop:
    """Follow the log for one projection."""

    def __init__(
        self, projection: Projection, database: Database, event_log: Log, condition: Condition
    ) -> None:
        self._projection = projection
        self._database = database
        self._log = event_log
        self._condition = condition
        self._name = f"projection {projection.name}"
        self._fails_at_events = False  # then only an event that goes well makes it well again

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until stopped; an error is reported, waited out and tried again.

        Raises Fenced.
        """
        self._condition.starting(self._name)
        patience = Patience(stop)
        try:
            while True:
                try:
                    await self._follow(stop, patience)
                except (Fenced, Stopped):
                    raise
                except Exception as error:
                    # Whatever is wrong is wrong with this view only: the log and the other views go on.
                    self._condition.bad(self._name, f"cannot go on: {error!r}")
                    if not isinstance(error, (DatabaseUnavailable, BusError, *TRANSIENT)):
                        self._fails_at_events = True
                        log.exception("projection.failed", projection=self._projection.name)
                    await patience.pause()
        except Stopped:
            return
        finally:
            self._condition.good(self._name)

    async def _follow(self, stop: asyncio.Event, patience: Patience) -> None:
        # One connection from the reading of the checkpoint on: only a crash of Postgres can take back what
        # it was told is written, and a crash ends the connection. Then we read the checkpoint again.
        async with self._database.pool.acquire() as connection:
            broken = asyncio.Event()
            connection.add_termination_listener(lambda _: broken.set())
            cursor = await self._checkpoint(connection)
            async with (
                aclosing(self._log.follow(cursor, batch=BATCH)) as batches,
                Interruptible(stop, broken) as unless_ended,
            ):
                if not self._fails_at_events:
                    self._condition.good(self._name)
                try:
                    await self._fold(connection, cursor, batches, unless_ended, patience)
                except Stopped:
                    if stop.is_set():
                        raise
                    raise DatabaseUnavailable("Postgres has ended the connection") from None

    async def _fold(
        self,
        connection: "Connection",
        cursor: Cursor,
        batches: AsyncIterator[list[Envelope]],
        unless_ended: Interruptible,
        patience: Patience,
    ) -> None:
        memory: Memory = {}
        while True:
            envelopes = await unless_ended.wait(anext(batches))
            cursor = await self._apply(connection, cursor, envelopes, memory)
            if len(memory) > KEPT_IN_MIND:
                memory.clear()
            self._fails_at_events = False
            self._condition.good(self._name)
            patience.reset()
            await asyncio.sleep(REST_SECONDS)

    async def _checkpoint(self, connection: "Connection") -> Cursor:
        await connection.execute(_BEGIN, self._projection.name, PARTITIONS - 1)
        rows = await connection.fetch(_READ, self._projection.name)
        return Cursor({row["partition"]: row["position"] for row in rows})

    async def _apply(
        self, connection: "Connection", before: Cursor, envelopes: Sequence[Envelope], memory: Memory
    ) -> Cursor:
        after = before.advanced(envelopes)
        moved = [p for p in after.positions if after.after(p) != before.after(p)]
        move = Move(
            self._projection.name, moved, [before.after(p) for p in moved], [after.after(p) for p in moved]
        )
        try:
            await self._projection.apply(connection, envelopes, move, memory)
        except asyncpg.PostgresError as error:
            if error.sqlstate == FENCED:
                raise Fenced(str(error)) from error
            raise
        return after
