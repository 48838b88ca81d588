"""Columns of Parquet files: the fields of an event, and those of its envelope, as types of Arrow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import UNSET, Struct
from msgspec import inspect as shapes

from antiphon.contracts.views import instant

Convert = Callable[[Any], Any]

INSTANT = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
BODY_PREFIX = "data_"  # of a field whose name an envelope's column has

_PLAIN: dict[type[shapes.Type], pa.DataType] = {
    shapes.StrType: TEXT,
    shapes.IntType: pa.int64(),
    shapes.FloatType: pa.float64(),
    shapes.BoolType: pa.bool_(),
}

_encoder = msgspec.json.Encoder()


class Column(NamedTuple):
    """A column: its name and type in the file, and how to get its value of a row; None is null."""

    name: str
    type: pa.DataType
    value: Convert


ENVELOPE_COLUMNS: tuple[Column, ...] = (
    Column("session_id", TEXT, lambda envelope: envelope.subject),
    Column("sequence", pa.int64(), lambda envelope: envelope.sequence),
    Column("position", pa.int64(), lambda envelope: envelope.position),
    Column("tenant", TEXT, lambda envelope: envelope.tenant),
    Column("event_id", TEXT, lambda envelope: envelope.id),
    Column("version", pa.int64(), lambda envelope: envelope.version),
    Column("time", INSTANT, lambda envelope: instant(envelope.time)),
    Column("producer", TEXT, lambda envelope: envelope.producer),
    Column("producerseq", pa.int64(), lambda envelope: envelope.producerseq),
    Column("traceparent", TEXT, lambda envelope: _given(envelope.traceparent)),
)
PARTITION_COLUMNS = ("day", "type")  # which readers take from the path of a file
_TAKEN = {*PARTITION_COLUMNS, *(column.name for column in ENVELOPE_COLUMNS)}


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def body_columns(kind: type[Struct]) -> tuple[Column, ...]:
    """Return the columns of an event's body.

    Structs and lists keep their form; an object of any form is JSON text.
    """
    return tuple(_column(field) for field in _fields(kind))


def _fields(kind: type[Struct]) -> tuple[shapes.Field, ...]:
    info = shapes.type_info(kind)
    assert isinstance(info, shapes.StructType)
    return info.fields


def _column(field: shapes.Field) -> Column:
    kind, convert = _arrow(field.type)
    name = f"{BODY_PREFIX}{field.name}" if field.name in _TAKEN else field.name
    return Column(name, kind, _reader(field.name, convert))


def _reader(name: str, convert: Convert | None) -> Convert:
    if convert is None:
        return lambda body: getattr(body, name)

    def read(body: Any) -> Any:
        value = getattr(body, name)
        return None if value is None else convert(value)

    return read


def _arrow(shape: shapes.Type) -> tuple[pa.DataType, Convert | None]:
    """Return the type of Arrow, and what turns a value into one of it; None if nothing must."""
    match shape:
        case shapes.Metadata():
            return _arrow(shape.type)
        case shapes.UnionType():
            options = [option for option in shape.types if not isinstance(option, shapes.NoneType)]
            return _arrow(options[0]) if len(options) == 1 else (TEXT, _as_json)
        case shapes.EnumType() | shapes.LiteralType():
            return _choice(shape)
        case shapes.ListType():
            return _list(shape.item_type)
        case shapes.StructType():
            return _struct(shape)
        case shapes.DateTimeType():
            return INSTANT, instant
        case _ if type(shape) in _PLAIN:
            return _PLAIN[type(shape)], None
    return TEXT, _as_json


def _choice(shape: shapes.EnumType | shapes.LiteralType) -> tuple[pa.DataType, Convert | None]:
    values = [each.value for each in shape.cls] if isinstance(shape, shapes.EnumType) else shape.values
    return (TEXT, str) if all(isinstance(value, str) for value in values) else (TEXT, _as_json)


def _list(item: shapes.Type) -> tuple[pa.DataType, Convert | None]:
    kind, convert = _arrow(item)
    if convert is None:
        return pa.list_(kind), None
    return pa.list_(kind), lambda values: [None if each is None else convert(each) for each in values]


def _struct(shape: shapes.StructType) -> tuple[pa.DataType, Convert | None]:
    readers: dict[str, Convert] = {}
    members: list[pa.Field] = []
    for field in shape.fields:
        kind, convert = _arrow(field.type)
        members.append(pa.field(field.name, kind))
        readers[field.name] = _reader(field.name, convert)
    return pa.struct(members), lambda value: {name: read(value) for name, read in readers.items()}


def _as_json(value: Any) -> str:
    return _encoder.encode(value).decode()
