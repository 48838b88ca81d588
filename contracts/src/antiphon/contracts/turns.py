"""The fold of turns: one row per turn, computed from its events in the same way by every reader."""

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
    match event:
        case TurnStarted():
            after = _started(event, envelope)
        case TurnSaved():
            after = _saved(event, envelope)
        case _:
            return row
    return after if row is None else _merged(row, after)


def unfinished(row: TurnView) -> TurnView:
    """Return the row of a turn as readers see it once its session has ended: an open one is never saved."""
    return replace(row, state="unfinished") if row.state == "open" else row


def _started(event: TurnStarted, envelope: Envelope) -> TurnView:
    at, sequence = instant(envelope.time), _sequence(envelope)
    return TurnView(
        session_id=envelope.subject,
        epoch=indexed(event.epoch),
        turn=event.turn,
        tenant=envelope.tenant,
        agent_id=storable(event.agent_id),
        state="open",
        interrupted=False,
        recovered=False,
        occurred_at=at,
        sequence=sequence,
        first_sequence=sequence,
        tool_call_ids=[],
        metrics={},
        started_at=at,
        user_text=_storable_or_none(event.user_text),
        language=_storable_or_none(event.language),
        confidence=event.confidence,
    )


def _saved(event: TurnSaved, envelope: Envelope) -> TurnView:
    sequence = _sequence(envelope)
    return TurnView(
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
        first_sequence=sequence,
        tool_call_ids=event.tool_call_ids,
        metrics=event.metrics,
        user_text=_storable_or_none(event.user_text),
        assistant_text=_storable_or_none(event.assistant_text),
        assistant_text_generated=_storable_or_none(event.assistant_text_generated),
        language=_storable_or_none(event.language),
        confidence=event.confidence,
    )


def _merged(before: TurnView, after: TurnView) -> TurnView:
    shown = after if _rank(after) > _rank(before) else before
    first_sequence = min(before.first_sequence, after.first_sequence)
    started_at = min((at for at in (before.started_at, after.started_at) if at is not None), default=None)
    if shown is before and (first_sequence, started_at) == (before.first_sequence, before.started_at):
        return before
    return replace(shown, first_sequence=first_sequence, started_at=started_at)


def _rank(row: TurnView) -> tuple[bool, bool, int]:
    # a recovered turn is the note of a killed agent, which may be older than the turn that it saved
    return row.state != "open", not row.recovered, row.sequence


def _sequence(envelope: Envelope) -> int:
    return 0 if envelope.sequence is UNSET else envelope.sequence


def _storable_or_none(text: str | None) -> str | None:
    return None if text is None else storable(text)
