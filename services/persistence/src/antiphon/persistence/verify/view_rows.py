"""The rows that a view should have, folded from the log, and those that it has, in a form to compare."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.views import TERM_SEPARATOR
from antiphon.persistence.projection import Projection, Row, Rows, ViewTable
from antiphon.persistence.projection.tables import Key

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

Comparable = dict[str, Any]  # a row by column; documents are decoded, one that is empty is None
Found = dict[Key, Comparable]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class Empty(dict[tuple[str, Key], Row | None]):
    """The cache of a view without rows: nothing needs to be read."""

    def __missing__(self, _: object) -> None:
        return None


class Fold:
    """A view in memory, folded from nothing."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._rows = Rows(Empty())

    def add(self, envelopes: Sequence[Envelope]) -> None:
        """Fold events.

        Raises EventFailed.
        """
        self._projection.fold(self._projection.opened(envelopes), self._rows)

    def rows(self, table: ViewTable) -> Found:
        """Return the rows of a table."""
        rows = (dict(zip(table.columns, values, strict=True)) for values in self._rows.whole(table))
        return {key_of(table, row): _expected(table, row) for row in rows}


def key_of(table: ViewTable, row: Mapping[str, Any]) -> Key:
    """Return the key of a row."""
    return tuple(row[name] for name in table.key)


async def stored_rows(connection: "Connection", table: ViewTable, condition: str, *arguments: Any) -> Found:
    """Return rows of the live view."""
    columns = ", ".join(table.columns)
    query = f"select {columns} from {table.name} where {condition}"
    records = await connection.fetch(query, *arguments)
    return {key_of(table, row): _stored(table, row) for row in map(dict, records)}


def _expected(table: ViewTable, row: Comparable) -> Comparable:
    for name in table.arrays:
        row[name] = None if row[name] is None else row[name].split(TERM_SEPARATOR)
    return _stored(table, row)


def _stored(table: ViewTable, row: Comparable) -> Comparable:
    for name in table.documents:
        value = row[name]
        if isinstance(value, str):
            value = _decode(value)
        row[name] = value or None  # null stands for an empty document
    return row


def digest(rows: Iterable[tuple[Key, Comparable]]) -> str:
    """Return the hash of rows, in the order of their keys."""
    digested = hashlib.sha256()
    for _, row in sorted(rows):
        digested.update(_encode(row))
        digested.update(b"\n")
    return digested.hexdigest()
