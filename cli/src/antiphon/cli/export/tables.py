"""Events of one type as a table of Arrow, and the table of events that cannot be read."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import pyarrow as pa
from msgspec import Struct

from antiphon.cli.export.columns import ENVELOPE_COLUMNS, TEXT, Column, body_columns
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.errors import ContractError
from antiphon.contracts.pii import impersonal_type, open_impersonal
from antiphon.contracts.registry import BY_TYPE, open_event

UNREADABLE = "_unreadable"  # in place of the type
INT64 = range(-(2**63), 2**63)
# what Arrow raises for a value that its type cannot hold, as an integer of more than 64 bits
UNFIT = (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError)


class Unreadable(NamedTuple):
    """An event that has no row in the table of its type, and why."""

    envelope: Envelope
    error: str


class Layout(NamedTuple):
    """The columns of the events of one type."""

    body: tuple[Column, ...]
    schema: pa.Schema


@cache
def layout_of(event_type: str, *, without_pii: bool) -> Layout:
    """Return the columns of a type's events, in the newest version that this program knows."""
    event = BY_TYPE[event_type]
    body = body_columns(impersonal_type(event) if without_pii else event)
    fields = [pa.field(column.name, column.type) for column in (*ENVELOPE_COLUMNS, *body)]
    about = {"antiphon.type": event.TYPE, "antiphon.version": str(event.VERSION)}
    return Layout(body, pa.schema(fields, metadata=about))


UNREADABLE_SCHEMA = pa.schema(
    [
        *(pa.field(column.name, column.type) for column in ENVELOPE_COLUMNS),
        pa.field("event_type", TEXT),
        pa.field("error", TEXT),
        pa.field("raw", TEXT),
    ]
)


def is_known(event_type: str) -> bool:
    """Return whether this program has a table for events of a type."""
    return event_type in BY_TYPE


def table_of(
    event_type: str, envelopes: Sequence[Envelope], *, without_pii: bool
) -> tuple[pa.Table, list[Unreadable]]:
    """Return the events of one type as a table, and those that do not fit in it."""
    layout = layout_of(event_type, without_pii=without_pii)
    opened = open_impersonal if without_pii else open_event
    read: list[Envelope] = []
    bodies: list[Struct] = []
    unreadable: list[Unreadable] = []
    for envelope in envelopes:
        try:
            bodies.append(opened(envelope))
            read.append(envelope)
        except ContractError as error:
            unreadable.append(Unreadable(envelope, str(error)))
    try:
        return _table(layout, read, bodies), unreadable
    except UNFIT:
        return _fitting(layout, read, bodies, unreadable)


def _fitting(
    layout: Layout, envelopes: Sequence[Envelope], bodies: Sequence[Struct], unreadable: list[Unreadable]
) -> tuple[pa.Table, list[Unreadable]]:
    """Return the table of the rows that fit when tried one by one, and the others."""
    tables = [layout.schema.empty_table()]
    for envelope, body in zip(envelopes, bodies, strict=True):
        try:
            tables.append(_table(layout, [envelope], [body]))
        except UNFIT as error:
            unreadable.append(Unreadable(envelope, str(error)))
    return pa.concat_tables(tables), unreadable


def _table(layout: Layout, envelopes: Sequence[Envelope], bodies: Sequence[Struct]) -> pa.Table:
    columns = [_array(column, envelopes) for column in ENVELOPE_COLUMNS]
    columns += [_array(column, bodies) for column in layout.body]
    return pa.Table.from_arrays(columns, schema=layout.schema)


def _array(column: Column, rows: Sequence[Struct]) -> pa.Array:
    return pa.array([column.value(row) for row in rows], column.type)


def _array_with_nulls(column: Column, rows: Sequence[Struct]) -> pa.Array:
    """Return a column whose integers that have more than 64 bits are null."""
    values = [column.value(row) for row in rows]
    if pa.types.is_integer(column.type):
        values = [value if value in INT64 else None for value in values]
    return pa.array(values, column.type)


def unreadable_table(found: Sequence[Unreadable]) -> pa.Table:
    """Return events that cannot be read, each as the JSON of the whole event."""
    envelopes = [each.envelope for each in found]
    columns = [_array_with_nulls(column, envelopes) for column in ENVELOPE_COLUMNS]
    columns.append(pa.array([envelope.type for envelope in envelopes], TEXT))
    columns.append(pa.array([each.error for each in found], TEXT))
    columns.append(pa.array([encode(envelope).decode() for envelope in envelopes], TEXT))
    return pa.Table.from_arrays(columns, schema=UNREADABLE_SCHEMA)
