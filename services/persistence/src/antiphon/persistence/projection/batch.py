"""Fold a batch of events into a view: read the rows that it needs, write those that change."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import asyncpg

from antiphon.contracts.envelope import Envelope
from antiphon.persistence.errors import FENCED, Fenced
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.declaration import Projection
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projection.tables import Key, ViewTable
from antiphon.persistence.projection.upsert import arguments, read, statement
from antiphon.persistence.traced_commits import TracedCommits

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

T = TypeVar("T")

# Unlike the event log, views need not wait for fsync: rows and checkpoint commit atomically, and lost work is
# projected again. Rows are found by their keys, whatever the statistics of a table that grows say.
_SETTINGS = "synchronous_commit=off&enable_seqscan=off&enable_hashjoin=off&enable_mergejoin=off&jit=off"
TURN = 500  # events that are folded before other tasks have their turn


def view_dsn(dsn: str) -> str:
    """Return the DSN of connections that write views."""
    return f"{dsn}{'&' if '?' in dsn else '?'}{_SETTINGS}"


class Advance(NamedTuple):
    """The advance of a view's checkpoints by one batch, as parallel lists: from `expected` to `reached`."""

    projection: str
    partitions: list[int]
    epochs: list[int]
    expected: list[int]
    reached: list[int]


class Write(NamedTuple):
    """A statement, and its arguments."""

    statement: str
    arguments: list[Any]


class Reader(Protocol):
    """What rows are read with."""

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of a query."""


async def apply(
    projection: Projection,
    connection: "Connection",
    envelopes: Sequence[Envelope],
    advance: Advance,
    cache: Cache,
    traced: TracedCommits | None = None,
) -> None:
    """Fold events, write the rows and advance the checkpoint: one statement, one transaction.

    `traced` shows the commit in the traces of the events. After any error the cache may no longer be used.
    Raises EventFailed, Fenced, and any of POSTGRES_ERRORS.
    """
    began = time.time_ns()
    rows = await folded(projection, connection, envelopes, cache)
    writing = write_of(projection, rows, advance)
    sent = time.time_ns()
    await write(connection, writing)
    rows.keep()
    cache.trim(envelopes)
    if traced is not None:
        traced.show(envelopes, len(envelopes), writing.statement, began=began, sent=sent)


def write_of(projection: Projection, rows: Rows, advance: Advance) -> Write:
    """Return the statement that writes the changed rows and advances the checkpoint."""
    written = rows.written()
    tables = tuple(table for table in projection.tables if table.name in written)
    return Write(statement(tables), [*advance, *arguments(tables, written)])


async def write(connection: "Connection", write: Write) -> None:
    """Write rows and checkpoint. Raises Fenced, and any of POSTGRES_ERRORS."""
    try:
        await connection.execute(write.statement, *write.arguments)
    except asyncpg.PostgresError as error:
        if error.sqlstate == FENCED:
            partitions = [int(number) for number in (error.detail or "").split()]
            raise Fenced(str(error), partitions) from error
        raise


async def folded(projection: Projection, reader: Reader, envelopes: Sequence[Envelope], cache: Cache) -> Rows:
    """Return the rows after these events; those that are not cached are read, and the events folded again."""
    opened = [one async for part in _turns(envelopes) for one in projection.opened(part)]
    for table in projection.tables:
        if table.key == ["session_id"]:  # needed for sure: they need not be missed first
            sessions = {(envelope.subject,) for _, (*_, envelope) in opened}
            cached = cache.of(table)
            await _read(reader, table, [key for key in sessions if not cached.knows(key)], cache)
    while True:
        rows = Rows(cache)
        async for part in _turns(opened):
            projection.fold(part, rows)
        if not rows.missing:
            return rows
        for table in projection.tables:
            keys = [key for missing, key in rows.missing if missing is table]
            await _read(reader, table, keys, cache)


async def _turns(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    for start in range(0, len(items) or 1, TURN):  # also none: what was skipped is logged
        if start:
            await asyncio.sleep(0)  # a rebuild may share the event loop with the live views
        yield items[start : start + TURN]


async def _read(reader: Reader, table: ViewTable, keys: Sequence[Key], cache: Cache) -> None:
    if not keys:
        return
    cache.put(table, keys, map(dict, await reader.fetch(read(table), *zip(*keys, strict=True))))
