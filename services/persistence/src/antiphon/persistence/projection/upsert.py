"""The statement that writes a batch into the tables of a view and advances its checkpoint, all in one."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from antiphon.contracts.views import TERM_SEPARATOR
from antiphon.persistence.projection.tables import Values, ViewTable

ADVANCE = "select advance_view($1, $2, $3, $4, $5)"
_FIRST = 6  # the number of the first argument after those of advance_view


@lru_cache(maxsize=64)
def statement(tables: tuple[ViewTable, ...]) -> str:
    """Return the statement for these tables: arguments are those of `advance_view`, then their columns."""
    if not tables:
        return ADVANCE
    writes, number = [], _FIRST
    for table in tables:
        writes.append(_write(table, number))
        number += len(table.columns)
    # `advanced` is read by the statement itself too: it is evaluated even if no row is written.
    steps = ",\n".join([f"advanced as materialized ({ADVANCE})", *writes])
    return f"with {steps}\nselect from advanced"


def arguments(tables: Sequence[ViewTable], written: dict[str, list[Values]]) -> list[Any]:
    """Return the columns of the written rows, as arguments of the statement."""
    return [column for table in tables for column in zip(*written[table.name], strict=True)]


def read(table: ViewTable) -> str:
    """Return the statement that reads rows by their keys, an array for each column of the key."""
    columns = ", ".join(f"null as {c}" if c in table.unread else f"known.{c}" for c in table.columns)
    arrays = ", ".join(f"${n}::{table.sql_types[c]}[]" for n, c in enumerate(table.key, start=1))
    return (
        f"select {columns} from unnest({arrays}) as wanted ({', '.join(table.key)})"
        f" join {table.name} as known using ({', '.join(table.key)})"
    )


def _write(table: ViewTable, first: int) -> str:
    names = ", ".join(table.columns)
    arrays = ", ".join(f"${n}::{table.sql_types[c]}[]" for n, c in enumerate(table.columns, start=first))
    values = ", ".join(
        f"string_to_array(row.{column}, E'\\x{ord(TERM_SEPARATOR):02x}')"
        if column in table.arrays
        else f"row.{column}"
        for column in table.columns
    )
    changes = ", ".join(
        f"{column} = coalesce(excluded.{column}, {table.name}.{column})"
        if column in table.documents
        else f"{column} = excluded.{column}"
        for column in table.columns
        if column not in table.key
    )
    conflict = f"do update set {changes}" if changes else "do nothing"
    return (
        f"write_{table.name} as (insert into {table.name} ({names}) select {values}"
        f" from advanced, unnest({arrays}) as row ({names})"
        f" on conflict ({', '.join(table.key)}) {conflict})"
    )
