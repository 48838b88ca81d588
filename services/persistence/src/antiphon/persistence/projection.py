"""A projection: a view of the event log, and the loop that updates it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import msgspec
import structlog

from antiphon.chassis.bus import BusError
from antiphon.chassis.database import TRANSIENT, Database, DatabaseUnavailable
from antiphon.chassis.log import Batch, Log
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, StopAwareWait
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.errors import FENCED, Fenced
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

BATCH = 500  # events of one partition in one transaction, at most
REST_SECONDS = 0.0015  # between two batches: events that arrive meanwhile share the next transaction
SETTLED_SECONDS = 5.0  # a loop that fails after this long starts its backoff again
MAX_CACHED_BYTES = 32 << 20  # of rows as JSON, and of the events folded into them since

_CREATE_CHECKPOINTS = """
insert into projection_checkpoints (projection, partition, position)
select $1, partition, 0 from generate_series(0, $2::integer) as partition
on conflict do nothing
"""
_READ_CHECKPOINTS = "select partition, position from projection_checkpoints where projection = $1"
_ADVANCE = "select advance_projection($1, $2, $3, $4)"

Columns = Sequence[Sequence[Any]]  # of the rows to write; empty if there are none
Cache = dict[str, Any]  # rows of the view by key
Fold = Callable[["Connection", Sequence[Envelope], Cache], Awaitable[Columns]]


class CheckpointAdvance(NamedTuple):
    """The advance of a checkpoint by one batch, as parallel lists: from `expected` to `reached`."""

    projection: str
    partitions: list[int]
    expected: list[int]
    reached: list[int]


@dataclass(frozen=True, slots=True)
class Projection:
    """A view: the function that folds events into columns, and the statement that writes them.

    `fold` gets committed envelopes, in order within each session, and may read its own view. It may cache the
    rows that it has read or written; the cache is dropped after any error. `write` advances the checkpoint
    ($1 to $4: a CheckpointAdvance) and writes the columns ($5 and on). It skips rows that include an
    event already, because events may be delivered again.
    """

    name: str
    fold: Fold
    write: str

    async def apply(
        self,
        connection: "Connection",
        envelopes: Sequence[Envelope],
        advance: CheckpointAdvance,
        cache: Cache,
    ) -> None:
        """Fold events, write the rows and advance the checkpoint: one statement, one transaction."""
        columns = await self.fold(connection, envelopes, cache)
        if columns:
            await connection.execute(self.write, *advance, *columns)
        else:
            await connection.execute(_ADVANCE, *advance)


def transpose(rows: Iterable[Sequence[Any]]) -> Columns:
    """Turn rows into columns."""
    return list(zip(*rows, strict=True))


class BoundedCache:
    """Rows of a view; all are dropped when together they are too large."""

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self.rows: Cache = {}
        self.bytes = 0  # at most: an event counts in full, however little of it its row keeps
        self._max_bytes = max_bytes
        self._counted = 0  # rows

    def trim(self, envelopes: Sequence[Envelope]) -> None:
        """Count the rows that are new, and the events that were folded into the others."""
        new = max(0, len(self.rows) - self._counted)  # the last ones: a dict keeps the order of insertion
        self.bytes += sum(
            len(msgspec.json.encode(row, enc_hook=repr)) for row in islice(reversed(self.rows.values()), new)
        )
        self.bytes += sum(len(envelope.data) for envelope in envelopes)
        if self.bytes > self._max_bytes:
            self.rows.clear()
            self.bytes = 0
        self._counted = len(self.rows)


class _Failed(Exception):
    """The loop failed and reported it; it is retried."""


class ProjectionLoop:
    """The loop that follows the log for one projection."""

    def __init__(
        self, projection: Projection, database: Database, event_log: Log, readiness: ReadinessCheck
    ) -> None:
        self._projection = projection
        self._database = database
        self._log = event_log
        self._readiness = readiness
        self._name = f"projection {projection.name}"

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the log until stopped; report and retry every error.

        Raises Fenced.
        """
        self._readiness.starting(self._name)
        try:
            await retrying(_Failed, stop=stop, settled_seconds=SETTLED_SECONDS)(
                self._follow_until_error, stop
            )
        except ShuttingDown:
            return
        finally:
            self._readiness.healthy(self._name)

    async def _follow_until_error(self, stop: asyncio.Event) -> None:
        try:
            await self._follow(stop)
        except (Fenced, ShuttingDown):
            raise
        except Exception as error:
            # Only this view is affected: the log and the other views continue.
            self._readiness.unhealthy(self._name, f"cannot continue: {error!r}")
            if not isinstance(error, (DatabaseUnavailable, BusError, *TRANSIENT)):
                log.exception("projection.failed", projection=self._projection.name)
            raise _Failed from error

    async def _follow(self, stop: asyncio.Event) -> None:
        # Commits do not wait for the disk, so a crash of Postgres may lose the last of them. A crash also
        # closes the connection: we use one connection, and read the checkpoint again when it is closed.
        async with self._database.pool.acquire() as connection:
            broken = asyncio.Event()
            connection.add_termination_listener(lambda _: broken.set())
            cursor = await self._read_checkpoint(connection)
            async with (
                aclosing(self._log.follow(cursor, batch=BATCH)) as batches,
                StopAwareWait(stop, broken) as wait,
            ):
                try:
                    await self._apply_batches(connection, cursor, batches, wait)
                except ShuttingDown:
                    if stop.is_set():
                        raise
                    raise DatabaseUnavailable("Postgres closed the connection") from None

    async def _apply_batches(
        self,
        connection: "Connection",
        cursor: Cursor,
        batches: AsyncIterator[Batch],
        wait: StopAwareWait,
    ) -> None:
        cache = BoundedCache()
        while True:
            batch = await wait(batches.__anext__)
            if batch.envelopes:
                cursor = await self._apply(connection, cursor, batch, cache.rows)
                cache.trim(batch.envelopes)
                await asyncio.sleep(REST_SECONDS)
            # A batch is applied or there is none: an event that fails keeps the view unready.
            self._readiness.healthy(self._name)

    async def _read_checkpoint(self, connection: "Connection") -> Cursor:
        await connection.execute(_CREATE_CHECKPOINTS, self._projection.name, PARTITIONS - 1)
        rows = await connection.fetch(_READ_CHECKPOINTS, self._projection.name)
        return Cursor({row["partition"]: row["position"] for row in rows})

    async def _apply(self, connection: "Connection", before: Cursor, batch: Batch, cache: Cache) -> Cursor:
        envelopes, after = batch
        advanced = [p for p in after.positions if after.after(p) != before.after(p)]
        advance = CheckpointAdvance(
            self._projection.name,
            advanced,
            expected=[before.after(p) for p in advanced],
            reached=[after.after(p) for p in advanced],
        )
        try:
            await self._projection.apply(connection, envelopes, advance, cache)
        except asyncpg.PostgresError as error:
            if error.sqlstate == FENCED:
                raise Fenced(str(error)) from error
            raise
        return after
