"""Fold a batch of events into a view: read the rows that it needs, write those that change."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from antiphon.contracts.envelope import Envelope
from antiphon.persistence.errors import FENCED, Fenced
from antiphon.persistence.projection.declaration import Projection
from antiphon.persistence.projection.rows import Cache, Rows
from antiphon.persistence.projection.tables import Key, ViewTable
from antiphon.persistence.projection.upsert import arguments, read, statement

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection


# Unlike the event log, views need not wait for fsync: rows and checkpoint commit atomically, and lost work is
# projected again. Rows are found by their keys, whatever the statistics of a table that grows say.
_SETTINGS = "synchronous_commit=off&enable_seqscan=off&enable_hashjoin=off&enable_mergejoin=off&jit=off"


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


async def apply(
    projection: Projection,
    connection: "Connection",
    envelopes: Sequence[Envelope],
    advance: Advance,
    cache: Cache,
) -> None:
    """Fold events, write the rows and advance the checkpoint: one statement, one transaction.

    After any error the cache may no longer be used. Raises EventFailed, Fenced, and any of POSTGRES_ERRORS.
    """
    rows = await folded(projection, connection, envelopes, cache)
    written = rows.written()
    tables = tuple(table for table in projection.tables if table.name in written)
    try:
        await connection.execute(statement(tables), *advance, *arguments(tables, written))
    except asyncpg.PostgresError as error:
        if error.sqlstate == FENCED:
            partitions = [int(number) for number in (error.detail or "").split()]
            raise Fenced(str(error), partitions) from error
        raise
    rows.keep()
    cache.trim(envelopes)


async def folded(
    projection: Projection, connection: "Connection", envelopes: Sequence[Envelope], cache: Cache
) -> Rows:
    """Return the rows after these events; those that are not cached are read, and the events folded again."""
    opened = projection.opened(envelopes)
    for table in projection.tables:
        if table.key == ["session_id"]:  # needed for sure: they need not be missed first
            sessions = {(envelope.subject,) for _, (*_, envelope) in opened}
            if unknown := [key for key in sessions if (table.name, key) not in cache.rows]:
                await _read(connection, table, unknown, cache)
    while True:
        rows = Rows(cache.rows)
        projection.fold(opened, rows)
        if not rows.missing:
            return rows
        for table in projection.tables:
            keys = [key for missing, key in rows.missing if missing is table]
            if keys:
                await _read(connection, table, keys, cache)


async def _read(connection: "Connection", table: ViewTable, keys: Iterable[Key], cache: Cache) -> None:
    keys = list(keys)
    for key in keys:
        cache.rows[table.name, key] = None
    for record in await connection.fetch(read(table), *zip(*keys, strict=True)):
        cache.rows[table.name, tuple(record[name] for name in table.key)] = table.loaded(dict(record))
