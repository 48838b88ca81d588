"""The fold: the state of a session, computed from its events in the same way by every reader."""

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import replace

from antiphon.contracts.envelope import SCHEMA_BASE, Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import LARGEST_COUNT, Event
from antiphon.contracts.events import agent, participant, session, turn
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.ids import epoch_of
from antiphon.contracts.registry import BY_TYPE, EVENTS, open_event
from antiphon.contracts.usage import total, with_job

T = TypeVar("T")

FOLD_VERSION = 3  # raised when the fold gives another state for the same events


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


class Agent(Struct, frozen=True, kw_only=True):
    """An agent of the session; its key in `agents` is its epoch, the id of its job.

    `reason` tells why it left: that of `agent.left`, that of the session's end, or `lost`.
    """

    identity: str | None = None
    joined_at: datetime | None = None
    left_at: datetime | None = None
    reason: str | None = None


MAX_AGENTS = 16  # of one session whose details are kept; the oldest are forgotten, but their turns count


class Session(Struct, frozen=True, kw_only=True):
    """The state of a session, folded from its events; `sequence` is that of the last one.

    `turns` counts the turns of all agents, and `turns_by_epoch` those of the newest ones. `usage` is that of
    all agents; `usage_by_epoch` has it by agent once there are several, and until then `usage_epoch` says
    whose it is. `skipped` counts events that could not be read: of an unknown type, of a newer version, or
    with a wrong body. Until a session is requested or adopted, its flow, user and room are unknown.
    """

    session_id: str
    tenant: str
    status: Status = Status.PENDING
    sequence: int = 0
    skipped: int = 0
    flow_id: str | None = None
    flow_revision: int | None = None
    user_id: str | None = None
    room: str | None = None
    room_sid: str | None = None  # of an adopted room: its name may be that of a later room
    agent_name: str | None = None
    language: str | None = None
    metadata: dict[str, Any] = {}
    conversation_id: str | None = None
    variables: dict[str, Any] = {}
    max_duration_seconds: int | None = None
    ttl_seconds: int | None = None
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
    turns_by_epoch: dict[str, int] = {}
    agents: dict[str, Agent] = {}
    participants: dict[str, Participant] = {}
    usage: list[ModelUsage] = []
    usage_epoch: str | None = None
    usage_by_epoch: dict[str, list[ModelUsage]] = {}
    ended_at: datetime | None = None
    reason: str | None = None
    fault: str | None = None
    duration_seconds: float | None = None
    detail: str | None = None
    test: bool = False
    flow_draft: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the session has reached a terminal status."""
        return self.status in TERMINAL


def _advanced(state: Session, status: Status) -> Status:
    """Return the later of two statuses; a terminal status does not change."""
    return status if _RANK[status] > _RANK[state.status] and not state.ended else state.status


def _requested(state: Session, event: session.SessionRequested, envelope: Envelope) -> Session:
    return replace(
        state,
        flow_id=event.flow_id or None,
        flow_revision=event.flow_revision or None,
        agent_name=event.agent_name,
        user_id=event.user_id,
        room=event.room,
        language=event.language,
        metadata=event.metadata,
        conversation_id=event.conversation_id,
        variables=event.variables,
        max_duration_seconds=event.max_duration_seconds,
        ttl_seconds=event.ttl_seconds,
        created_at=envelope.time,
        test=event.test,
        flow_draft=event.flow_draft,
    )


def _adopted(state: Session, event: session.SessionAdopted, envelope: Envelope) -> Session:
    if state.created_at is not None:
        return state  # requested, or adopted by an earlier agent
    return replace(
        state,
        user_id=event.user_id,
        room=event.room,
        room_sid=event.room_sid,
        agent_name=event.agent_name,
        language=event.language,
        metadata=event.metadata,
        created_at=envelope.time,
    )


def _dispatched(state: Session, event: session.SessionDispatched, envelope: Envelope) -> Session:
    return replace(
        state,
        status=_advanced(state, Status.DISPATCHED),
        dispatch_attempts=max(state.dispatch_attempts, event.attempt),
        dispatched_at=state.dispatched_at or envelope.time,
        agent_name=event.agent_name,
        detail=None if state.status is Status.PENDING else state.detail,
    )


def _dispatch_failed(state: Session, event: session.SessionDispatchFailed, envelope: Envelope) -> Session:
    return replace(state, dispatch_attempts=max(state.dispatch_attempts, event.attempt), detail=event.reason)


def _agents(state: Session, epoch: str, agent: Agent) -> dict[str, Agent]:
    return _newest({**state.agents, epoch: agent})


def _newest(by_epoch: dict[str, T]) -> dict[str, T]:
    """Return the entries that were added last, at most MAX_AGENTS."""
    return dict(list(by_epoch.items())[-MAX_AGENTS:]) if len(by_epoch) > MAX_AGENTS else by_epoch


def _joined(state: Session, event: agent.AgentJoined, envelope: Envelope) -> Session:
    joined = replace(state.agents.get(event.epoch, Agent()), identity=event.identity, joined_at=envelope.time)
    return replace(
        state,
        status=_advanced(state, Status.JOINED),
        job_id=event.job_id,
        joined_at=envelope.time,
        agents=_agents(state, event.epoch, joined),
    )


def _left(state: Session, event: agent.AgentLeft, envelope: Envelope) -> Session:
    left = replace(state.agents.get(event.epoch, Agent()), left_at=envelope.time, reason=event.reason)
    return replace(_used(state, event.epoch, event.usage), agents=_agents(state, event.epoch, left))


def _lost(state: Session, event: agent.AgentLost, envelope: Envelope) -> Session:
    known = state.agents.get(event.job_id, Agent())
    if known.left_at is not None:
        return state
    return replace(
        state, agents=_agents(state, event.job_id, replace(known, left_at=envelope.time, reason="lost"))
    )


def _all_left(state: Session, at: datetime, reason: str) -> dict[str, Agent]:
    """Return the agents when the session ends: those that are still there leave with it."""
    return {
        epoch: agent if agent.left_at else replace(agent, left_at=at, reason=reason)
        for epoch, agent in state.agents.items()
    }


def _all_gone(state: Session, at: datetime) -> dict[str, Participant]:
    """Return the participants after the end of the session: nobody records who leaves the room after it."""
    return {sid: one if one.left_at else replace(one, left_at=at) for sid, one in state.participants.items()}


def _ready(state: Session, event: agent.AgentReady, envelope: Envelope) -> Session:
    return replace(
        state,
        status=_advanced(state, Status.READY),
        ready_at=state.ready_at or envelope.time,
        greeting=event.greeting,
    )


def _agent_state(state: Session, event: agent.AgentStateChanged, envelope: Envelope) -> Session:
    return replace(state, agent_state=event.new_state)


def _user_state(state: Session, event: agent.UserStateChanged, envelope: Envelope) -> Session:
    return replace(state, user_state=event.new_state)


def _handed_off(state: Session, event: agent.AgentHandedOff, envelope: Envelope) -> Session:
    return replace(state, agent_id=event.to_agent)


def _turn(state: Session, event: turn.TurnSaved, envelope: Envelope) -> Session:
    # Numbers are unique within an epoch; events from before there were epochs have none.
    epoch = event.epoch or ""
    known = state.turns_by_epoch.get(epoch, 0)
    if known == 0 and len(state.turns_by_epoch) >= MAX_AGENTS:
        known = event.turn - 1  # the earlier turns of an epoch that is forgotten are counted
    if event.turn <= known:
        return replace(state, status=_advanced(state, Status.ACTIVE))
    return replace(
        state,
        status=_advanced(state, Status.ACTIVE),
        turns=min(state.turns + event.turn - known, LARGEST_COUNT),
        turns_by_epoch=_newest({**state.turns_by_epoch, epoch: event.turn}),
    )


def _connected(state: Session, event: participant.ParticipantConnected, envelope: Envelope) -> Session:
    known = state.participants.get(event.sid)  # each agent that joins writes down whom it finds
    joined_at = envelope.time if known is None else known.joined_at
    present = Participant(identity=event.identity, kind=event.kind, joined_at=joined_at)
    return replace(state, participants={**state.participants, event.sid: present})


def _disconnected(state: Session, event: participant.ParticipantDisconnected, envelope: Envelope) -> Session:
    known = state.participants.get(event.sid)
    if known is None:
        known = Participant(identity=event.identity, kind=event.kind, joined_at=envelope.time)
    return replace(
        state, participants={**state.participants, event.sid: replace(known, left_at=envelope.time)}
    )


def _usage(state: Session, event: UsageUpdated, envelope: Envelope) -> Session:
    return _used(state, epoch_of(envelope.id, envelope.subject), event.models)


def _used(state: Session, epoch: str, models: list[ModelUsage]) -> Session:
    if not models:
        return state
    if state.usage_epoch in (None, epoch) and not state.usage_by_epoch:
        return replace(state, usage_epoch=epoch, usage=models)
    by_epoch = state.usage_by_epoch or {state.usage_epoch or "": state.usage}
    by_epoch = with_job(by_epoch, epoch, models)
    return replace(state, usage_by_epoch=by_epoch, usage=total(by_epoch.values()))


def _present(state: Session) -> str:
    """Return the epoch of the last agent that has not left; of the last one if all have."""
    epochs = [epoch for epoch, known in state.agents.items() if known.left_at is None] or [*state.agents]
    return epochs[-1] if epochs else ""


def _closed(state: Session, event: session.SessionClosed, envelope: Envelope) -> Session:
    return replace(
        _used(state, _present(state), event.usage),
        status=_advanced(state, Status.CLOSED),
        ended_at=envelope.time,
        reason=event.reason,
        fault=event.fault,
        duration_seconds=event.duration_seconds,
        detail=event.detail,
        agents=_all_left(state, envelope.time, event.reason),
        participants=_all_gone(state, envelope.time),
    )


def _failed(state: Session, event: session.SessionFailed, envelope: Envelope) -> Session:
    return replace(
        state,
        status=_advanced(state, Status.FAILED),
        ended_at=envelope.time,
        reason=event.reason,
        detail=event.detail,
        agents=_all_left(state, envelope.time, event.reason),
        participants=_all_gone(state, envelope.time),
    )


_APPLY: dict[type[Event], Callable[[Session, Any, Envelope], Session]] = {
    session.SessionRequested: _requested,
    session.SessionAdopted: _adopted,
    session.SessionDispatched: _dispatched,
    session.SessionDispatchFailed: _dispatch_failed,
    session.SessionClosed: _closed,
    session.SessionFailed: _failed,
    agent.AgentJoined: _joined,
    agent.AgentReady: _ready,
    agent.AgentLeft: _left,
    agent.AgentLost: _lost,
    agent.AgentStateChanged: _agent_state,
    agent.UserStateChanged: _user_state,
    agent.AgentHandedOff: _handed_off,
    turn.TurnSaved: _turn,
    participant.ParticipantConnected: _connected,
    participant.ParticipantDisconnected: _disconnected,
    UsageUpdated: _usage,
}
_APPLY_BY_TYPE = {event.TYPE: apply for event, apply in _APPLY.items()}
_CURRENT = {event.TYPE: f"{SCHEMA_BASE}/{event.TYPE}/{event.VERSION}" for event in EVENTS}


def _is_readable(envelope: Envelope) -> bool:
    """Return whether this version knows the event's type and version."""
    known = BY_TYPE.get(envelope.type)
    return known is not None and 1 <= envelope.version <= known.VERSION


def evolve(state: Session, envelope: Envelope) -> Session:
    """Return the state of the session after one more event.

    Pure and total: an event that cannot be read changes only `skipped`, `sequence` and `updated_at`, and one
    that was folded before changes nothing. Events without a sequence, which are not committed yet, fold too.
    """
    if envelope.sequence is not UNSET and envelope.sequence <= state.sequence:
        return state
    skipped = state.skipped
    apply = _APPLY_BY_TYPE.get(envelope.type)
    if apply is None:
        skipped += envelope.dataschema != _CURRENT.get(envelope.type) and not _is_readable(envelope)
    # The first terminal event decides; later events still update the other fields.
    elif not (state.ended and envelope.type in TERMINAL_TYPES):
        try:
            state = apply(state, open_event(envelope), envelope)
        except ContractError:
            skipped += 1
    updated = envelope.time if state.updated_at is None else max(state.updated_at, envelope.time)
    sequence = state.sequence if envelope.sequence is UNSET else envelope.sequence
    return replace(state, sequence=sequence, updated_at=updated, skipped=skipped)


def fold(session_id: str, tenant: str, envelopes: Iterable[Envelope]) -> Session:
    """Return the state of a session after these events, in this order."""
    state = Session(session_id=session_id, tenant=tenant)
    for envelope in envelopes:
        state = evolve(state, envelope)
    return state
