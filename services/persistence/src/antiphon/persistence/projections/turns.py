"""The turns view: one row a turn, as the last `turn.saved` of its number told it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import UnsupportedEventVersion
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event
from antiphon.persistence.projection import Columns, Memory, Projection, transposed
from antiphon.persistence.sql import read_sql, text, text_or_null

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

Row = tuple[object, ...]


async def columns(_: "Connection", envelopes: Sequence[Envelope], __: Memory) -> Columns:
    """Make rows of the turns that these events save."""
    return transposed(saved(envelopes))


def saved(envelopes: Iterable[Envelope]) -> list[Row]:
    """Return one row for each turn that was saved, the last of its number."""
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
        return None  # of a newer producer: this reader cannot tell
    return event if isinstance(event, TurnSaved) else None


def _values(envelope: Envelope, event: TurnSaved) -> Row:
    return (
        envelope.subject,
        event.turn,
        envelope.tenant,
        text(event.agent_id),
        event.interrupted,
        event.recovered,
        envelope.time,
        0 if envelope.sequence is UNSET else envelope.sequence,
        msgspec.json.encode(event.tool_call_ids).decode(),
        msgspec.json.encode(event.metrics).decode(),
        text_or_null(event.user_text),
        text_or_null(event.assistant_text),
        text_or_null(event.assistant_text_generated),
        text_or_null(event.language),
        event.confidence,
    )


TURNS = Projection("turns", columns, write=read_sql(__package__, "turns.sql"))
