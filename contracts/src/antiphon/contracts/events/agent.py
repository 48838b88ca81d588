"""Events of the agent: jobs, states, hand-offs and errors."""

from datetime import datetime
from typing import ClassVar, Literal

from antiphon.contracts.event import (
    Count,
    Event,
    Family,
    MaybePersonalText,
    Milliseconds,
    PersonalText,
    Seconds,
)
from antiphon.contracts.events.session import FaultSide
from antiphon.contracts.events.usage import ModelUsage

AgentState = Literal["initializing", "idle", "listening", "thinking", "speaking"]
UserState = Literal["speaking", "listening", "away"]


class AgentJoined(Event, frozen=True, kw_only=True):
    """An agent job started serving the session; its job id is the epoch of its events."""

    TYPE: ClassVar[str] = "agent.joined"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    worker_id: str
    epoch: str
    identity: str
    received_at: datetime | None = None
    accepted_at: datetime | None = None
    assigned_at: datetime | None = None
    launched_at: datetime | None = None
    cold_start: bool = False


class AgentReady(Event, frozen=True, kw_only=True):
    """The agent has greeted the caller and is listening."""

    TYPE: ClassVar[str] = "agent.ready"
    FAMILY: ClassVar[Family] = Family.AGENT

    greeting: PersonalText
    ready_ms: Milliseconds


class AgentLeft(Event, frozen=True, kw_only=True):
    """An agent left the session, which goes on with another agent in the room.

    `reason` is one of those of `session.closed`, `replaced`: a newer job took its identity, or `killed`: its
    process ended without a word, whether or not another agent is in the room.
    """

    TYPE: ClassVar[str] = "agent.left"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    epoch: str
    reason: str
    fault: FaultSide
    duration_seconds: Seconds
    turns: Count
    usage: list[ModelUsage] = []
    detail: MaybePersonalText = None


class AgentLost(Event, frozen=True, kw_only=True):
    """The agent crashed or stopped responding while its session was open."""

    TYPE: ClassVar[str] = "agent.lost"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    noticed_by: Literal["process_exit", "heartbeat", "webhook"]
    last_heard: datetime | None = None
    detail: MaybePersonalText = None


class AgentResumed(Event, frozen=True, kw_only=True):
    """A new agent job resumed the session of an earlier one."""

    TYPE: ClassVar[str] = "agent.resumed"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    earlier_epoch: str
    turns_restored: Count
    gap_seconds: Seconds


class AgentStateChanged(Event, frozen=True, kw_only=True):
    """The state of the agent changed."""

    TYPE: ClassVar[str] = "agent_state_changed"
    FAMILY: ClassVar[Family] = Family.AGENT

    old_state: AgentState
    new_state: AgentState


class UserStateChanged(Event, frozen=True, kw_only=True):
    """The state of the user changed."""

    TYPE: ClassVar[str] = "user_state_changed"
    FAMILY: ClassVar[Family] = Family.AGENT

    old_state: UserState
    new_state: UserState


class AgentHandedOff(Event, frozen=True, kw_only=True):
    """One agent of the flow handed the conversation over to another; `reason` may quote its model."""

    TYPE: ClassVar[str] = "agent.handed_off"
    FAMILY: ClassVar[Family] = Family.AGENT

    to_agent: str
    from_agent: str | None = None
    reason: MaybePersonalText = None


class AgentTransferred(Event, frozen=True, kw_only=True):
    """The agent transferred the caller to a person by telephone, or failed to.

    `reason` tells who decided it and why; `detail` is the error of a transfer that failed.
    """

    TYPE: ClassVar[str] = "agent.transferred"
    FAMILY: ClassVar[Family] = Family.AGENT

    person: str
    status: Literal["done", "failed"]
    to: MaybePersonalText = None
    reason: MaybePersonalText = None
    detail: MaybePersonalText = None


class AgentError(Event, frozen=True, kw_only=True):
    """A component that the agent depends on failed."""

    TYPE: ClassVar[str] = "agent.error"
    FAMILY: ClassVar[Family] = Family.AGENT

    source: str
    kind: str
    recoverable: bool
    message: PersonalText
