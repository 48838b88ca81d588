"""The writes of a build: rows that do not exist yet are copied, which costs a third of an upsert."""

from typing import TYPE_CHECKING, NamedTuple

from antiphon.contracts.views import TERM_SEPARATOR
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import Advance, Write, write
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projection.tables import Values, ViewTable
from antiphon.persistence.projection.upsert import arguments, statement

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection


class BulkWrite(NamedTuple):
    """The statement that changes rows and advances the checkpoint, and the rows that are new, by table."""

    changes: Write
    created: list[tuple[ViewTable, list[Values]]]


def bulk_write_of(projection: Projection, rows: Rows, advance: Advance) -> BulkWrite:
    """Return how the changed rows of a batch are written; this process alone writes their partitions."""
    created, changed = rows.created_and_changed()
    tables = tuple(table for table in projection.tables if table.name in changed)
    return BulkWrite(
        Write(statement(tables), [*advance, *arguments(tables, changed)]),
        [(table, created[table.name]) for table in projection.tables if table.name in created],
    )


async def write_bulk(connection: "Connection", bulk: BulkWrite) -> None:
    """Write a batch in one transaction. Raises Fenced, and any of POSTGRES_ERRORS."""
    async with connection.transaction():
        await write(connection, bulk.changes)  # first, as it fails when this process is fenced
        for table, rows in bulk.created:
            records = [_with_arrays(table, row) for row in rows] if table.arrays else rows
            await connection.copy_records_to_table(table.name, columns=table.columns, records=records)


def _with_arrays(table: ViewTable, row: Values) -> Values:
    return tuple(
        value and value.split(TERM_SEPARATOR) if name in table.arrays else value
        for name, value in zip(table.columns, row, strict=True)
    )
