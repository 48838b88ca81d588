"""The fold of turns: one row per turn, computed from its events in the same way by every reader."""

from datetime import datetime
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.views import TurnView, indexed, instant, storable

TURNS_VERSION = 1  # of this fold: raised when it gives another row for the same events
TURN_TYPES = frozenset({TurnStarted.TYPE, TurnSaved.TYPE})


class TurnKey(NamedTuple):
    """The key of a turn; numbers are unique within an epoch."""

    session_id: str
    epoch: str
    turn: int


def turn_key(event: Event, envelope: Envelope) -> TurnKey | None:
    """Return the key of the turn that an event belongs to, or None for an event of another type."""
    if isinstance(event, TurnStarted | TurnSaved):
        return TurnKey(envelope.subject, indexed(event.epoch or ""), event.turn)
    return None


def turn_after(row: TurnView | None, event: Event, envelope: Envelope) -> TurnView | None:
    """Return the row of a turn after one more event; `row` is that of the event's key, None if there is none.

    Pure, and the same for any order of the events: a row shows the last `turn.saved` that its own agent
    wrote, else the last recovered one, else the last `turn.started`. An event that changes nothing, or is of
    another type, returns `row` itself.
    """
    sequence = 0 if envelope.sequence is UNSET else envelope.sequence
    if isinstance(event, TurnSaved):
        rank, started_at = (True, not event.recovered, sequence), None
    elif isinstance(event, TurnStarted):
        rank, started_at = (False, True, sequence), instant(envelope.time)
    else:
        return row
    first_sequence = sequence
    if row is not None:
        first_sequence = min(row.first_sequence, sequence)
        started_at = _earliest(row.started_at, started_at)
        if rank <= _rank(row):
            if first_sequence == row.first_sequence and started_at == row.started_at:
                return row
            return replace(row, first_sequence=first_sequence, started_at=started_at)
    if isinstance(event, TurnStarted):
        return _open(event, envelope, sequence, first_sequence, started_at)
    return _saved(event, envelope, sequence, first_sequence, started_at)


def unfinished(row: TurnView) -> TurnView:
    """Return the row of a turn as readers see it once its session has ended: an open one is never saved."""
    return replace(row, state="unfinished") if row.state == "open" else row


# Two calls make one row: Python passes more than 15 keywords in a dict, which takes longer than both.
def _open(
    event: TurnStarted, envelope: Envelope, sequence: int, first_sequence: int, started_at: datetime | None
) -> TurnView:
    turn = TurnView(
        session_id=envelope.subject,
        epoch=indexed(event.epoch),
        turn=event.turn,
        tenant=envelope.tenant,
        agent_id=storable(event.agent_id),
        state="open",
        interrupted=False,
        recovered=False,
        occurred_at=instant(envelope.time),
        sequence=sequence,
        first_sequence=first_sequence,
        tool_call_ids=[],
        metrics={},
        started_at=started_at,
    )
    return replace(
        turn,
        user_text=event.user_text and storable(event.user_text),
        language=event.language and storable(event.language),
        confidence=event.confidence,
    )


def _saved(
    event: TurnSaved, envelope: Envelope, sequence: int, first_sequence: int, started_at: datetime | None
) -> TurnView:
    turn = TurnView(
        session_id=envelope.subject,
        epoch=indexed(event.epoch or ""),
        turn=event.turn,
        tenant=envelope.tenant,
        agent_id=storable(event.agent_id),
        state="saved",
        interrupted=event.interrupted,
        recovered=event.recovered,
        occurred_at=instant(envelope.time),
        sequence=sequence,
        first_sequence=first_sequence,
        tool_call_ids=event.tool_call_ids,
        metrics=event.metrics,
        started_at=started_at,
    )
    generated = event.assistant_text_generated
    return replace(
        turn,
        user_text=event.user_text and storable(event.user_text),
        assistant_text=event.assistant_text and storable(event.assistant_text),
        assistant_text_generated=generated and storable(generated),
        language=event.language and storable(event.language),
        confidence=event.confidence,
    )


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _rank(row: TurnView) -> tuple[bool, bool, int]:
    # a recovered turn is the note of a killed agent, which may be older than the turn that it saved
    return row.state != "open", not row.recovered, row.sequence
