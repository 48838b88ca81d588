"""Events of the agent: jobs, states, hand-offs and errors."""

from datetime import datetime
from typing import ClassVar, Literal

from antiphon.contracts.event import Count, Event, Family, Milliseconds, PersonalText, Seconds

AgentState = Literal["initializing", "idle", "listening", "thinking", "speaking"]
UserState = Literal["speaking", "listening", "away"]


class AgentJoined(Event, frozen=True, kw_only=True):
    """An agent's job began to serve the session; the epoch of its events is its job id."""

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
    """The agent has greeted the caller and listens."""

    TYPE: ClassVar[str] = "agent.ready"
    FAMILY: ClassVar[Family] = Family.AGENT

    greeting: PersonalText
    ready_ms: Milliseconds


class AgentLost(Event, frozen=True, kw_only=True):
    """The agent died or fell silent while its session was open."""

    TYPE: ClassVar[str] = "agent.lost"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    noticed_by: Literal["process_exit", "heartbeat", "webhook"]
    last_heard: datetime | None = None
    detail: str | None = None


class AgentResumed(Event, frozen=True, kw_only=True):
    """A new job took the session up where an earlier one had left it."""

    TYPE: ClassVar[str] = "agent.resumed"
    FAMILY: ClassVar[Family] = Family.AGENT

    job_id: str
    earlier_epoch: str
    turns_restored: Count
    gap_seconds: Seconds


class AgentStateChanged(Event, frozen=True, kw_only=True):
    """The agent began to listen, think, speak or idle."""

    TYPE: ClassVar[str] = "agent_state_changed"
    FAMILY: ClassVar[Family] = Family.AGENT

    old_state: AgentState
    new_state: AgentState


class UserStateChanged(Event, frozen=True, kw_only=True):
    """The user began to speak, fell silent or went away."""

    TYPE: ClassVar[str] = "user_state_changed"
    FAMILY: ClassVar[Family] = Family.AGENT

    old_state: UserState
    new_state: UserState


class AgentHandedOff(Event, frozen=True, kw_only=True):
    """One agent of the flow gave the conversation to another."""

    TYPE: ClassVar[str] = "agent.handed_off"
    FAMILY: ClassVar[Family] = Family.AGENT

    to_agent: str
    from_agent: str | None = None
    reason: str | None = None


class AgentError(Event, frozen=True, kw_only=True):
    """Something the agent depends on went wrong."""

    TYPE: ClassVar[str] = "agent.error"
    FAMILY: ClassVar[Family] = Family.AGENT

    source: str
    kind: str
    recoverable: bool
    message: PersonalText
