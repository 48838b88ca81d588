"""A projection: what it is, and the one loop that keeps its view."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from chassis.bus import BusError
from chassis.database import Database, DatabaseUnavailable
from chassis.log import Log
from contracts.cursor import Cursor
from contracts.envelope import Envelope
from contracts.subjects import PARTITIONS
from persistence.condition import Condition
from persistence.keep import Fenced
from persistence.patience import Patience, Stopped, or_stop

if TYPE_CHECKING:
    from chassis.database import Connection

log = structlog.get_logger(__name__)

BATCH = 500  # events at most of one partition in one transaction

_BEGIN = """
insert into projection_checkpoints (projection, partition, position)
select $1, partition, 0 from generate_series(0, $2::integer) as partition
on conflict do nothing
"""
_READ = "select partition, position from projection_checkpoints where projection = $1"
_MOVE = """
update projection_checkpoints as checkpoint
   set position = moved.position, updated_at = now()
  from unnest($2::smallint[], $3::bigint[], $4::bigint[]) as moved (partition, expected, position)
 where checkpoint.projection = $1
   and checkpoint.partition = moved.partition
   and checkpoint.position = moved.expected
"""

Project = Callable[["Connection", Sequence[Envelope]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Projection:
    """Name a view and the function that folds events into it.

    The function gets committed envelopes, in order within each session. It writes rows and nothing else,
    and leaves a row alone that has seen an event already: it may be given the same events again.
    """

    name: str
    project: Project


class ProjectionLoop:
    """Follow the log for one projection: fold a batch and move the checkpoint, in one transaction."""

    def __init__(
        self, projection: Projection, database: Database, event_log: Log, condition: Condition
    ) -> None:
        self._projection = projection
        self._database = database
        self._log = event_log
        self._condition = condition
        self._name = f"projection {projection.name}"

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until stopped; an error is reported, waited out and tried again.

        Raises Fenced.
        """
        self._condition.starting(self._name)
        patience = Patience(stop)
        try:
            while not stop.is_set():
                try:
                    await self._follow(stop, patience)
                except (Fenced, Stopped):
                    raise
                except Exception as error:
                    # Whatever is wrong is wrong with this view only: the log and the other views go on.
                    self._condition.bad(self._name, f"cannot go on: {error!r}")
                    if not isinstance(error, (DatabaseUnavailable, BusError)):
                        log.exception("projection.failed", projection=self._projection.name)
                    await patience.pause()
        except Stopped:
            return
        finally:
            self._condition.good(self._name)

    async def _follow(self, stop: asyncio.Event, patience: Patience) -> None:
        cursor = await self._checkpoint()
        async with aclosing(self._log.follow(cursor, batch=BATCH)) as batches:
            self._condition.good(self._name)
            while not stop.is_set():
                envelopes = await or_stop(anext(batches), stop)
                cursor = await self._apply(cursor, envelopes)
                self._condition.good(self._name)
                patience.reset()

    async def _checkpoint(self) -> Cursor:
        async with self._database.transaction() as connection:
            await connection.execute(_BEGIN, self._projection.name, PARTITIONS - 1)
            rows = await connection.fetch(_READ, self._projection.name)
        return Cursor({row["partition"]: row["position"] for row in rows})

    async def _apply(self, before: Cursor, envelopes: Sequence[Envelope]) -> Cursor:
        after = before.advanced(envelopes)
        moved = [p for p in after.positions if after.after(p) != before.after(p)]
        async with self._database.transaction() as connection:
            done = await connection.execute(
                _MOVE,
                self._projection.name,
                moved,
                [before.after(partition) for partition in moved],
                [after.after(partition) for partition in moved],
            )
            if done != f"UPDATE {len(moved)}":
                raise Fenced(f"{self._name} was moved by another writer")
            await self._projection.project(connection, envelopes)
        return after
