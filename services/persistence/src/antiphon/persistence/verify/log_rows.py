"""Read the event log for verification: page by page in the order of a partition, up to a fixed head."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import asyncpg

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
from antiphon.chassis.retry import retrying
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.sql import read_sql

PAGE = 500  # rows
PAGE_BYTES = 4 << 20  # of envelopes; one that is larger is a page of its own
OUTAGE_SECONDS = 60.0  # that a verification waits for Postgres
STRAYS = 100  # rows beyond the head that are named

_SQL = read_sql("antiphon.persistence.verify", "log_rows.sql")
_ALL, _OF_TENANT = _SQL, _SQL.replace("/* and tenant = $6 */", "and tenant = $6")
_CHECKPOINTS = """
select number, coalesce(position, 0), chain, chained_after, coalesce(chained, 0)
  from generate_series(0, $1::integer) as number
  left join checkpoints on name = 'ingest:' || number
 order by number
"""
_BEYOND = """
select session_id, sequence, partition, position
  from unnest($1::smallint[], $2::bigint[]) as head (number, reached)
 cross join lateral (
    select * from event_log where partition = number and position > reached order by position limit $3
 ) as beyond
 union all
(select session_id, sequence, partition, position from event_log where partition < 0 limit $3)
 union all
(select session_id, sequence, partition, position from event_log where partition > $4 limit $3)
"""
_FIRST_FROM = """
select position, committed_at from event_log
 where partition = $1 and position >= $2 order by position limit 1
"""
_HAS_TENANT = """
select exists(select from event_log where tenant = $1)
    or exists(select from erased_sessions where tenant = $1)
"""
_LAST_BEFORE = """
select position, chain from event_log where partition = $1 and position < $2 order by position desc limit 1
"""


class NoSuchTenant(Exception):
    """The log has no event of a tenant."""


class Checkpoint(NamedTuple):
    """The end of a partition when a verification begins; see the table `checkpoints`."""

    partition: int
    position: int
    chain: bytes | None
    chained_after: int | None
    chained: int


class Row(NamedTuple):
    """A row of the log, or of an erased event: its columns from `tenant` to `envelope` are None.

    `hash`, `chain` and `committed_at` are None too for events from before the chain.
    """

    position: int
    session_id: str
    sequence: int
    partition: int
    tenant: str
    event_id: str
    type: str
    version: int
    occurred_at: datetime
    committed_at: datetime
    envelope: str | None
    hash: bytes | None
    chain: bytes | None
    previous_position: int | None  # of the event before it in its session, if that is in the log
    previous_hash: bytes | None  # of the event before it in its session, also of an erased one
    erased_through: int | None  # the last sequence of its session that was erased


class Start(NamedTuple):
    """Where a verification begins: after a position, with the chain there; None at the chain's beginning."""

    position: int = 0
    chain: bytes | None = None


class LogRows:
    """The rows of the event log. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, tenant: str | None) -> None:
        self._database = database
        self._tenant = tenant
        self._retry = retrying(DatabaseUnavailable, timeout_seconds=OUTAGE_SECONDS)

    async def ends(self) -> tuple[list[Checkpoint], list[asyncpg.Record]]:
        """Return the checkpoint of each partition, and the rows of the same moment that are beyond them."""
        async with self._database.transaction() as connection:
            await connection.execute("set transaction isolation level repeatable read, read only")
            found = [Checkpoint(*row) for row in await connection.fetch(_CHECKPOINTS, PARTITIONS - 1)]
            numbers, positions = [end.partition for end in found], [end.position for end in found]
            beyond = await connection.fetch(_BEYOND, numbers, positions, STRAYS, PARTITIONS - 1)
        return found, beyond

    async def check_tenant(self) -> None:
        """Raise NoSuchTenant if the log has, and had, no event of the tenant."""
        if self._tenant is not None and not (await self._fetch(_HAS_TENANT, self._tenant))[0][0]:
            raise NoSuchTenant(f"The log has no events of tenant {self._tenant}: nothing was verified.")

    async def start_at(self, end: Checkpoint, since: datetime) -> Start:
        """Return the place before the first event that was committed at a time or later, by bisection."""
        low, high = 1, end.position + 1
        while low < high:
            middle = (low + high) // 2
            rows = await self._fetch(_FIRST_FROM, end.partition, middle)
            if (
                not rows
                or rows[0]["position"] > end.position
                or (rows[0]["committed_at"] is not None and rows[0]["committed_at"] >= since)
            ):
                high = middle
            else:
                low = rows[0]["position"] + 1
        rows = await self._fetch(_LAST_BEFORE, end.partition, low)
        return Start(rows[0]["position"], rows[0]["chain"]) if rows else Start()

    async def pages(self, partition: int, after: int, upto: int) -> AsyncIterator[list[Row]]:
        """Yield the rows of a partition in order; while one page is in use, Postgres finds the next."""
        rows = await self._page(partition, after, upto)
        while rows:
            reading = asyncio.create_task(
                self._page(partition, rows[-1].position, upto), name="verify: next page"
            )
            try:
                await asyncio.sleep(0)  # so that the query is sent
                yield rows
                rows = await reading
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError, DatabaseUnavailable):
                    await reading

    async def _page(self, partition: int, after: int, upto: int) -> list[Row]:
        query = _ALL if self._tenant is None else _OF_TENANT
        rows = await self._fetch(query, partition, after, upto, PAGE, PAGE_BYTES, self._tenant)
        return [Row(*row) for row in rows]

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async def fetch() -> list[asyncpg.Record]:
            with translate_errors():
                return list(await self._database.pool.fetch(query, *arguments))

        rows: list[asyncpg.Record] = await self._retry(fetch)
        return rows
