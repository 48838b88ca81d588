"""The rows that a view should have, folded from the log, and those that it has, in a form to compare."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.views import TERM_SEPARATOR
from antiphon.persistence.projection import Projection, Rows, ViewTable
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.tables import Key, Values

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

Comparable = dict[str, Any]  # a row by column; documents are decoded, one that is empty is None
Found = dict[Key, Comparable]
Taken = dict[Key, Values]

PAGE = 500  # rows of a view that are read at once

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class Fold:
    """A view in memory, folded from nothing."""

    def __init__(self, projection: Projection) -> None:
        self.events = 0
        self._projection = projection
        self._rows = Rows(Cache(empty=True))

    def add(self, envelopes: Sequence[Envelope]) -> None:
        """Fold events.

        Raises EventFailed.
        """
        self.events += len(envelopes)
        self._projection.fold(self._projection.opened(envelopes), self._rows)

    def rows(self, table: ViewTable) -> Found:
        """Return the rows of a table."""
        rows = (dict(zip(table.columns, values, strict=True)) for values in self._rows.whole(table))
        return {key_of(table, row): comparable(table, row) for row in rows}

    def taken(self, table: ViewTable) -> Taken:
        """Return the values of the rows of a table, which the fold forgets: both would not fit."""
        places = [table.columns.index(name) for name in table.key]
        return {tuple(values[place] for place in places): values for values in self._rows.taken(table)}


def key_of(table: ViewTable, row: Mapping[str, Any]) -> Key:
    """Return the key of a row."""
    return tuple(row[name] for name in table.key)


async def stored_rows(
    connection: "Connection", table: ViewTable, condition: str, *arguments: Any
) -> AsyncIterator[Comparable]:
    """Yield rows of the live view, in no order. It needs a transaction."""
    columns = ", ".join(table.columns)
    query = f"select {columns} from {table.name} where {condition}"
    async for record in connection.cursor(query, *arguments, prefetch=PAGE):
        yield _stored(table, dict(record))


def comparable(table: ViewTable, row: Comparable) -> Comparable:
    """Return a row, made of the values of its columns, in the form to compare."""
    for name in table.arrays:
        row[name] = row[name].split(TERM_SEPARATOR) if row[name] else None
    return _stored(table, row)


def _stored(table: ViewTable, row: Comparable) -> Comparable:
    for name in table.documents:
        value = row[name]
        if isinstance(value, str):
            value = _decode(value)
        row[name] = value or None  # null stands for an empty document
    return row


def same(expected: Comparable, found: Comparable) -> bool:
    """Return whether two rows are the same; not-a-number is the same as itself."""
    return expected == found or _encode(expected) == _encode(found)
