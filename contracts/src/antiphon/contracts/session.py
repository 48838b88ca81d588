"""The fold: the state of a session, computed from its events in the same way by every reader."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import UnsupportedEventVersion
from antiphon.contracts.event import Event
from antiphon.contracts.events import agent, participant, session, turn
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.registry import open_event


class Status(StrEnum):
    """The status of a session, in order of progress."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    JOINED = "joined"
    READY = "ready"
    ACTIVE = "active"
    CLOSED = "closed"
    FAILED = "failed"


_RANK = {status: rank for rank, status in enumerate(Status)}
TERMINAL = frozenset({Status.CLOSED, Status.FAILED})
TERMINAL_TYPES = frozenset({session.SessionClosed.TYPE, session.SessionFailed.TYPE})


class Participant(Struct, frozen=True, kw_only=True):
    """A participant of the session; its key in `participants` is its sid."""

    identity: str
    kind: str
    joined_at: datetime
    left_at: datetime | None = None


class Session(Struct, frozen=True, kw_only=True):
    """The state of a session, folded from its events; `sequence` is that of the last one."""

    session_id: str
    tenant: str
    status: Status = Status.PENDING
    sequence: int = 0
    flow_id: str | None = None
    flow_revision: int | None = None
    agent_name: str | None = None
    user_id: str = ""
    room: str = ""
    language: str | None = None
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    dispatch_attempts: int = 0
    dispatched_at: datetime | None = None
    job_id: str | None = None
    joined_at: datetime | None = None
    ready_at: datetime | None = None
    greeting: str | None = None
    agent_id: str | None = None
    agent_state: str | None = None
    user_state: str | None = None
    turns: int = 0
    participants: dict[str, Participant] = {}
    usage: list[ModelUsage] = []
    ended_at: datetime | None = None
    reason: str | None = None
    fault: str | None = None
    duration_seconds: float | None = None
    detail: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the session has reached a terminal status."""
        return self.status in TERMINAL


def _advanced(state: Session, status: Status) -> Status:
    """Return the later of two statuses; a terminal status does not change."""
    return status if _RANK[status] > _RANK[state.status] and not state.ended else state.status


def _requested(state: Session, event: session.SessionRequested, at: datetime) -> Session:
    return replace(
        state,
        flow_id=event.flow_id or None,
        flow_revision=event.flow_revision or None,
        agent_name=event.agent_name,
        user_id=event.user_id,
        room=event.room,
        language=event.language,
        metadata=event.metadata,
        created_at=at,
    )


def _dispatched(state: Session, event: session.SessionDispatched, at: datetime) -> Session:
    return replace(
        state,
        status=_advanced(state, Status.DISPATCHED),
        dispatch_attempts=max(state.dispatch_attempts, event.attempt),
        dispatched_at=state.dispatched_at or at,
        detail=None if state.status is Status.PENDING else state.detail,
    )


def _dispatch_failed(state: Session, event: session.SessionDispatchFailed, at: datetime) -> Session:
    return replace(state, dispatch_attempts=max(state.dispatch_attempts, event.attempt), detail=event.reason)


def _joined(state: Session, event: agent.AgentJoined, at: datetime) -> Session:
    return replace(state, status=_advanced(state, Status.JOINED), job_id=event.job_id, joined_at=at)


def _ready(state: Session, event: agent.AgentReady, at: datetime) -> Session:
    return replace(
        state, status=_advanced(state, Status.READY), ready_at=state.ready_at or at, greeting=event.greeting
    )


def _agent_state(state: Session, event: agent.AgentStateChanged, at: datetime) -> Session:
    return replace(state, agent_state=event.new_state)


def _user_state(state: Session, event: agent.UserStateChanged, at: datetime) -> Session:
    return replace(state, user_state=event.new_state)


def _handed_off(state: Session, event: agent.AgentHandedOff, at: datetime) -> Session:
    return replace(state, agent_id=event.to_agent)


def _turn(state: Session, event: turn.TurnSaved, at: datetime) -> Session:
    return replace(state, status=_advanced(state, Status.ACTIVE), turns=max(state.turns, event.turn))


def _connected(state: Session, event: participant.ParticipantConnected, at: datetime) -> Session:
    present = Participant(identity=event.identity, kind=event.kind, joined_at=at)
    return replace(state, participants={**state.participants, event.sid: present})


def _disconnected(state: Session, event: participant.ParticipantDisconnected, at: datetime) -> Session:
    known = state.participants.get(event.sid)
    if known is None:
        known = Participant(identity=event.identity, kind=event.kind, joined_at=at)
    return replace(state, participants={**state.participants, event.sid: replace(known, left_at=at)})


def _usage(state: Session, event: UsageUpdated, at: datetime) -> Session:
    return replace(state, usage=event.models)


def _closed(state: Session, event: session.SessionClosed, at: datetime) -> Session:
    return replace(
        state,
        status=_advanced(state, Status.CLOSED),
        ended_at=at,
        reason=event.reason,
        fault=event.fault,
        duration_seconds=event.duration_seconds,
        detail=event.detail,
        usage=event.usage or state.usage,
    )


def _failed(state: Session, event: session.SessionFailed, at: datetime) -> Session:
    return replace(
        state, status=_advanced(state, Status.FAILED), ended_at=at, reason=event.reason, detail=event.detail
    )


_APPLY: dict[type[Event], Callable[[Session, Any, datetime], Session]] = {
    session.SessionRequested: _requested,
    session.SessionDispatched: _dispatched,
    session.SessionDispatchFailed: _dispatch_failed,
    session.SessionClosed: _closed,
    session.SessionFailed: _failed,
    agent.AgentJoined: _joined,
    agent.AgentReady: _ready,
    agent.AgentStateChanged: _agent_state,
    agent.UserStateChanged: _user_state,
    agent.AgentHandedOff: _handed_off,
    turn.TurnSaved: _turn,
    participant.ParticipantConnected: _connected,
    participant.ParticipantDisconnected: _disconnected,
    UsageUpdated: _usage,
}
_APPLY_BY_TYPE = {event.TYPE: apply for event, apply in _APPLY.items()}


def evolve(state: Session, envelope: Envelope) -> Session:
    """Return the state of the session after one more event.

    Pure and total: an unknown event changes only `sequence` and `updated_at`, and an event that was
    folded before changes nothing. Events without a sequence, which are not committed yet, fold too.
    Raises MalformedEvent for a body that violates its schema.
    """
    if envelope.sequence is not UNSET and envelope.sequence <= state.sequence:
        return state
    apply = _APPLY_BY_TYPE.get(envelope.type)
    # The first terminal event decides; later events still update the other fields.
    if apply is not None and not (state.ended and envelope.type in TERMINAL_TYPES):
        with suppress(UnsupportedEventVersion):  # from a newer producer: this reader cannot decode it
            state = apply(state, open_event(envelope), envelope.time)
    updated = envelope.time if state.updated_at is None else max(state.updated_at, envelope.time)
    sequence = state.sequence if envelope.sequence is UNSET else envelope.sequence
    return replace(state, sequence=sequence, updated_at=updated)


def fold(session_id: str, tenant: str, envelopes: Iterable[Envelope]) -> Session:
    """Return the state of a session after these events, in this order."""
    state = Session(session_id=session_id, tenant=tenant)
    for envelope in envelopes:
        state = evolve(state, envelope)
    return state
