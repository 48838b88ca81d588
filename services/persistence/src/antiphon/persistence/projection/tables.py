"""The tables of views: declared beside the functions that fill them, created when a view is built."""

import sys
from collections.abc import Callable, Collection, Mapping
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnDefault,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from antiphon.contracts.views import INDEXED_LENGTH, TERM_SEPARATOR
from antiphon.persistence.schema import naming
from antiphon.persistence.sql import instant

views = MetaData(naming_convention=naming)  # apart from `schema.metadata`, which migrations create

Row = dict[str, Any]  # of a view, by column
Key = tuple[Any, ...]
Values = tuple[Any, ...]

KEYED_BY = frozenset({"session_id", "partition"})  # one of them is in each key

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_SQL_TYPES: dict[type[Any], str] = {
    SmallInteger: "smallint",
    BigInteger: "bigint",
    Integer: "integer",
    Boolean: "boolean",
    Float: "float8",
    DateTime: "timestamptz",
    Date: "date",
    LargeBinary: "bytea",
    JSON: "json",
    ARRAY: "text",  # of terms: there are no arrays of arrays of different lengths
    Text: "text",
}


def _sql_type(column: Column[Any]) -> str:
    return next(name for kind, name in _SQL_TYPES.items() if isinstance(column.type, kind))


def _is_document(column: Column[Any]) -> bool:
    return isinstance(column.type, (JSON, ARRAY))


def text_of(column: Column[Any], value: str) -> str:
    """Return a text as its column stores it: without NUL; if it may be indexed, with a bounded length."""
    if "\0" in value:
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value[:INDEXED_LENGTH] if _is_indexed(column) else value


def _is_indexed(column: Column[Any]) -> bool:
    return getattr(column.type, "collation", None) == "C"


def _text(column: Column[Any]) -> Callable[[Any], Any]:
    longest = INDEXED_LENGTH if _is_indexed(column) else sys.maxsize

    def stored(value: str) -> str:
        return value if "\0" not in value and len(value) <= longest else text_of(column, value)

    return stored


def _stored(column: Column[Any]) -> Callable[[Any], Any] | None:
    """Return how a value is made one that Postgres can store; None if it is one already."""
    if isinstance(column.type, JSON):
        return lambda value: _encode(value).decode()
    if isinstance(column.type, ARRAY):
        return TERM_SEPARATOR.join
    if isinstance(column.type, Text):
        return _text(column)
    if isinstance(column.type, DateTime):
        return instant
    return None


class ViewTable:
    """A table of a view, and how its rows are read and written.

    A row is a dict of its columns; its values are replaced, never changed in place. `load` makes another kind
    of row of a record, `dump` returns the columns of one, given the row before, and `keep` what of a written
    row is cached, or None for nothing. Documents and arrays of nullable columns that are the same objects as
    before are not written again, and can not become null. Columns in `unread` are written only.
    The key must have `session_id` or `partition`: replicas fold different partitions at the same time, and of
    a row of several partitions the changes of one would be lost. Raises ValueError.
    """

    def __init__(
        self,
        table: Table,
        *,
        load: Callable[[Mapping[str, Any]], Row] | None = None,
        dump: Callable[[Row, Row | None], Row] | None = None,
        keep: Callable[[Row], Row | None] | None = None,
        unread: Collection[str] = (),
    ) -> None:
        columns = list(table.columns)
        self.table = table
        self.name = table.name
        self.columns = [column.name for column in columns]
        self.key = [column.name for column in table.primary_key]
        if not KEYED_BY.intersection(self.key):
            raise ValueError(
                f"the table {table.name} needs session_id or partition in its primary key, which is "
                f"({', '.join(self.key)}): replicas fold different partitions at the same time, and would "
                "overwrite each other's rows. Add partition, which is partition_of(envelope.subject); "
                "readers add up the partitions"
            )
        self.sql_types = {column.name: _sql_type(column) for column in columns}
        self.arrays = frozenset(column.name for column in columns if isinstance(column.type, ARRAY))
        self.documents = frozenset(column.name for column in columns if _is_document(column))
        self.unread = frozenset(unread)
        self._load, self._dump, self._keep = load, dump, keep
        self._values = itemgetter(*self.columns)
        self._defaults = {c.name: c.default.arg for c in columns if isinstance(c.default, ColumnDefault)}
        self._stored = [(n, stored) for n, column in enumerate(columns) if (stored := _stored(column))]
        # Postgres refuses a null in a required column before it sees that the row exists
        self._documents = [(n, c.name) for n, c in enumerate(columns) if _is_document(c) and c.nullable]
        self._key_columns = [table.c[name] for name in self.key]
        self._json = [c.name for c in columns if isinstance(c.type, JSON) and c.name not in self.unread]

    def stored_key(self, key: Key) -> Key:
        """Return a key as it is stored."""
        for value in key:
            if value.__class__ is str and (len(value) > INDEXED_LENGTH or "\0" in value):
                break
        else:
            return key
        return tuple(
            text_of(column, value) if isinstance(value, str) else value
            for column, value in zip(self._key_columns, key, strict=True)
        )

    def new(self, key: Key) -> Row:
        """Return a row that does not exist yet: its key, and the defaults of the other columns."""
        row = self._defaults.copy()
        for name, value in zip(self.key, key, strict=True):
            row[name] = value
        return row

    def loaded(self, record: Mapping[str, Any]) -> Row:
        """Return the row of a record."""
        if self._load is not None:
            return self._load(record)
        row = dict(record)
        for name in self._json:
            if row.get(name) is not None:
                row[name] = _decode(row[name])
        return row

    def values(self, row: Row, before: Row | None) -> Values:
        """Return the values of all columns as Postgres stores them; None for a document that is unchanged."""
        columns = row if self._dump is None else self._dump(row, before)
        try:
            values = list(self._values(columns))
        except KeyError:  # not every column was set
            values = [columns.get(name) for name in self.columns]
        if before is not None and self._dump is None:
            for place, name in self._documents:
                if before.get(name) is values[place]:
                    values[place] = None
        for place, stored in self._stored:
            value = values[place]
            if value is not None:
                values[place] = stored(value)
        return tuple(values)

    def kept(self, row: Row) -> Row | None:
        """Return what of a written row is cached."""
        return row if self._keep is None else self._keep(row)


def create_statements(table: Table) -> list[str]:
    """Return the statements that create a table and its indexes in the first schema of the search path."""
    postgres = dialect()  # type: ignore[no-untyped-call]
    return [str(CreateTable(table).compile(dialect=postgres)), *index_statements(table)]


def index_statements(table: Table) -> list[str]:
    """Return the statements that create the indexes of a table that do not exist yet."""
    postgres = dialect()  # type: ignore[no-untyped-call]
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    return [str(CreateIndex(index, if_not_exists=True).compile(dialect=postgres)) for index in indexes]
