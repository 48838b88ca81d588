"""Hypothesis strategies for events and session histories."""

import string
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec.inspect as mi
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from antiphon.contracts.envelope import Envelope, committed, seal
from antiphon.contracts.event import Event
from antiphon.contracts.registry import EVENTS

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SESSION_ID = "ses_01m7yq1we0eqq9xvayxnfetqqd"

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
_json = st.recursive(st.none() | st.booleans() | st.integers(-1000, 1000) | _text, st.lists, max_leaves=4)


def _number(info: mi.IntType | mi.FloatType) -> SearchStrategy[Any]:
    low = -(10**6) if info.ge is None else info.ge
    high = 10**6 if info.le is None else info.le
    if isinstance(info, mi.IntType):
        return st.integers(int(low), int(high))
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


def _value(info: mi.LiteralType | mi.EnumType) -> SearchStrategy[Any]:
    return st.sampled_from(list(info.cls) if isinstance(info, mi.EnumType) else info.values)


def _struct(info: mi.StructType) -> SearchStrategy[Any]:
    return st.builds(info.cls, **{field.name: _strategy(field.type) for field in info.fields})


def _strategy(info: mi.Type) -> SearchStrategy[Any]:
    while isinstance(info, mi.Metadata):
        info = info.type
    match info:
        case mi.StructType():
            return _struct(info)
        case mi.IntType() | mi.FloatType():
            return _number(info)
        case mi.UnionType():
            return st.one_of([_strategy(member) for member in info.types])
        case mi.ListType():
            return st.lists(_strategy(info.item_type), max_size=3)
        case mi.DictType():
            return st.dictionaries(_words, _strategy(info.value_type), max_size=3)
        case mi.LiteralType() | mi.EnumType():
            return _value(info)
        case _:
            return _SIMPLE[type(info)]


_SIMPLE: dict[type[mi.Type], SearchStrategy[Any]] = {
    mi.StrType: _text,
    mi.BoolType: st.booleans(),
    mi.NoneType: st.none(),
    mi.AnyType: _json,
    mi.DateTimeType: st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
}


def events(*types: type[Event]) -> SearchStrategy[Event]:
    """Return a strategy for any event of the catalogue, or of the given types."""
    return st.one_of([_strategy(mi.type_info(event)) for event in types or EVENTS])


def history(body: list[Event], session_id: str = SESSION_ID, tenant: str = "default") -> list[Envelope]:
    """Return these events as the committed history of one session, one second apart."""
    return [
        committed(
            seal(
                event,
                id=f"{session_id}:test:{number}",
                session_id=session_id,
                tenant=tenant,
                producer="test",
                producerseq=number,
                time=EPOCH + timedelta(seconds=number),
            ),
            sequence=number,
            position=number,
        )
        for number, event in enumerate(body, start=1)
    ]


def histories(max_size: int = 12) -> SearchStrategy[list[Envelope]]:
    """Return a strategy for the committed history of one session: any events in any order."""
    return st.lists(events(), max_size=max_size).map(history)
