"""The moment of a backup: a snapshot of Postgres, with what ingest had read and committed in it.

The dump is of the same snapshot, so that log, views and checkpoints agree however busy the system is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from antiphon.chassis import postgres
from antiphon.chassis.database import REFUSED, DatabaseRefused, translate_errors
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.migrations import check
from antiphon.persistence.migrations.compatibility import read_compatible_from
from antiphon.persistence.verify.heads import Head

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CONNECT_SECONDS = 10.0

_CHECKPOINTS = """
select number, coalesce(position, 0), coalesce(chained, 0), chained_after, encode(chain, 'hex'),
       greatest(read_through, position, 0)
  from generate_series(0, $1::integer) as number
  left join checkpoints on name = 'ingest:' || number
 order by number
"""


class Moment(Struct, frozen=True):
    """A snapshot of Postgres: its name for pg_dump, the schema, and the progress of each partition."""

    snapshot: str
    server_version: str
    revision: str
    compatible_from: str | None
    heads: list[Head]
    read_through: list[int]


@asynccontextmanager
async def moment(dsn: str) -> AsyncIterator[Moment]:
    """Hold a snapshot of Postgres until the end of the block.

    Raises SchemaMismatch, DatabaseRefused, DatabaseUnavailable, and any of POSTGRES_ERRORS.
    """
    try:
        with translate_errors():
            connection = await postgres.connect(
                dsn,
                name="persistence backup",
                connect_seconds=CONNECT_SECONDS,
                idle_in_transaction_session_timeout="0",  # a dump may take hours
            )
    except REFUSED as error:
        raise DatabaseRefused(f"check ANTIPHON_POSTGRES_DSN: {error}") from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            revision = await check(connection)
            compatible_from = await read_compatible_from(connection)
            heads, read_through = await read_progress(connection)
            yield Moment(
                snapshot=await connection.fetchval("select pg_export_snapshot()"),
                server_version=await connection.fetchval("show server_version"),
                revision=revision,
                compatible_from=compatible_from,
                heads=heads,
                read_through=read_through,
            )
    finally:
        connection.terminate()  # it has changed nothing, and may be gone


async def read_progress(connection: "Connection") -> tuple[list[Head], list[int]]:
    """Return the end of each partition's chain, and up to where each has read the stream.

    Raises any of POSTGRES_ERRORS.
    """
    rows = await connection.fetch(_CHECKPOINTS, PARTITIONS - 1)
    heads = [
        Head(number, position, chained, chained_after, chain)
        for number, position, chained, chained_after, chain, _ in rows
    ]
    return heads, [row[5] for row in rows]
