"""The turns view: one row per turn of an agent, open from its `turn.started` to its `turn.saved`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.registry import open_event
from antiphon.persistence.projection import Cache, Columns, Projection, transpose
from antiphon.persistence.projections.skipped import SkippedEvents
from antiphon.persistence.sql import indexable, instant, read_sql, storable, storable_or_none

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

Key = tuple[str, str, int]  # session, epoch, turn

_encode = msgspec.json.Encoder().encode
_TYPES = frozenset({TurnStarted.TYPE, TurnSaved.TYPE})

skipped = SkippedEvents("turns")


class Row(msgspec.Struct, frozen=True):
    """A turn: the event that it shows, and what it keeps of its other events."""

    key: Key
    envelope: Envelope
    event: TurnStarted | TurnSaved
    first_sequence: int
    started_at: datetime | None


async def columns(_: "Connection", envelopes: Sequence[Envelope], __: Cache) -> Columns:
    """Return the columns of the turns that these events start or save."""
    return transpose(map(_values, turns_of(envelopes)))


def turns_of(envelopes: Iterable[Envelope]) -> list[Row]:
    """Return one row per turn, from all its events."""
    rows: dict[Key, Row] = {}
    for envelope in envelopes:
        if envelope.type not in _TYPES:
            continue
        try:
            event = open_event(envelope)
        except ContractError:
            skipped.add(envelope)
            continue
        if isinstance(event, (TurnStarted, TurnSaved)):
            row = _row(envelope, event)
            known = rows.get(row.key)
            rows[row.key] = row if known is None else _merged(known, row)
    skipped.log()
    return list(rows.values())


def _row(envelope: Envelope, event: TurnStarted | TurnSaved) -> Row:
    return Row(
        key=(envelope.subject, indexable(event.epoch or ""), event.turn),
        envelope=envelope,
        event=event,
        first_sequence=_sequence(envelope),
        started_at=instant(envelope.time) if isinstance(event, TurnStarted) else None,
    )


def _merged(before: Row, after: Row) -> Row:
    """Return the row of a turn after one more event; turns.sql does the same with a row of the view."""
    shown = after if _rank(after) >= _rank(before) else before
    starts = [row.started_at for row in (before, after) if row.started_at is not None]
    return replace(
        shown,
        first_sequence=min(before.first_sequence, after.first_sequence),
        started_at=min(starts, default=None),
    )


def _rank(row: Row) -> int:
    """Return how much the event says: a recovered turn is a note, which may be older than the saved turn."""
    if isinstance(row.event, TurnStarted):
        return 0
    return 1 if row.event.recovered else 2


def _sequence(envelope: Envelope) -> int:
    return 0 if envelope.sequence is UNSET else envelope.sequence


def _values(row: Row) -> tuple[object, ...]:
    envelope, event = row.envelope, row.event
    saved = event if isinstance(event, TurnSaved) else None
    return (
        *row.key,
        envelope.tenant,
        storable(event.agent_id),
        "saved" if saved else "open",
        saved is not None and saved.interrupted,
        saved is not None and saved.recovered,
        instant(envelope.time),
        _sequence(envelope),
        row.first_sequence,
        _encode(saved.tool_call_ids).decode() if saved else "[]",
        _encode(saved.metrics).decode() if saved else "{}",
        row.started_at,
        storable_or_none(event.user_text),
        storable_or_none(saved.assistant_text) if saved else None,
        storable_or_none(saved.assistant_text_generated) if saved else None,
        storable_or_none(event.language),
        event.confidence,
    )


TURNS = Projection("turns", columns, write=read_sql(__package__, "turns.sql"))
