"""The turns view: one row per turn, from the last `turn.saved` with its number."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import UnsupportedEventVersion
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event
from antiphon.persistence.projection import Cache, Columns, Projection, transpose
from antiphon.persistence.sql import read_sql, storable, storable_or_none

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

Row = tuple[object, ...]


async def columns(_: "Connection", envelopes: Sequence[Envelope], __: Cache) -> Columns:
    """Return the columns of the turns that these events save."""
    return transpose(saved_turns(envelopes))


def saved_turns(envelopes: Iterable[Envelope]) -> list[Row]:
    """Return one row per turn number, from its last event."""
    rows: dict[tuple[str, int], Row] = {}
    for envelope in envelopes:
        event = _turn_saved(envelope)
        if event is not None:
            rows[envelope.subject, event.turn] = _values(envelope, event)
    return list(rows.values())


def _turn_saved(envelope: Envelope) -> TurnSaved | None:
    if envelope.type != TurnSaved.TYPE:
        return None
    try:
        event = open_event(envelope)
    except UnsupportedEventVersion:
        return None  # from a newer producer
    return event if isinstance(event, TurnSaved) else None


def _values(envelope: Envelope, event: TurnSaved) -> Row:
    return (
        envelope.subject,
        event.turn,
        envelope.tenant,
        storable(event.agent_id),
        event.interrupted,
        event.recovered,
        envelope.time,
        0 if envelope.sequence is UNSET else envelope.sequence,
        msgspec.json.encode(event.tool_call_ids).decode(),
        msgspec.json.encode(event.metrics).decode(),
        storable_or_none(event.user_text),
        storable_or_none(event.assistant_text),
        storable_or_none(event.assistant_text_generated),
        storable_or_none(event.language),
        event.confidence,
    )


TURNS = Projection("turns", columns, write=read_sql(__package__, "turns.sql"))
