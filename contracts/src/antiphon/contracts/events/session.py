"""Events of a session's lifecycle: requested, dispatched, closed or failed."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from antiphon.contracts.event import (
    Count,
    Event,
    Family,
    MaybePersonalText,
    PersonalMap,
    PersonalText,
    Seconds,
)
from antiphon.contracts.events.usage import ModelUsage


class SessionRequested(Event, frozen=True, kw_only=True):
    """A client requested a session.

    For an agent without a flow, `flow_id` is "" and `flow_revision` is 0. A `test` session tries a flow: no
    figures count it. `flow_draft` is the SHA-256 of a source that is no revision; `flow_revision` is then 0.
    """

    TYPE: ClassVar[str] = "session.requested"
    FAMILY: ClassVar[Family] = Family.SESSION

    flow_id: str
    flow_revision: Count
    user_id: PersonalText
    room: PersonalText
    agent_name: str | None = None
    language: str | None = None
    metadata: PersonalMap = {}
    conversation_id: PersonalText | None = None
    variables: PersonalMap = {}
    max_duration_seconds: Annotated[int, Meta(ge=1)] | None = None
    ttl_seconds: Annotated[int, Meta(ge=1, description="how long the agent waits for the caller")] | None = (
        None
    )
    test: bool = False
    flow_draft: str | None = None


class SessionAdopted(Event, frozen=True, kw_only=True):
    """A recorder started in a room that no client had requested a session for."""

    TYPE: ClassVar[str] = "session.adopted"
    FAMILY: ClassVar[Family] = Family.SESSION

    room: PersonalText
    room_sid: str | None = None
    agent_name: str | None = None
    user_id: PersonalText | None = None
    language: str | None = None
    metadata: PersonalMap = {}


class SessionDispatched(Event, frozen=True, kw_only=True):
    """LiveKit created the room and accepted its agent dispatch."""

    TYPE: ClassVar[str] = "session.dispatched"
    FAMILY: ClassVar[Family] = Family.SESSION

    attempt: Count
    room_sid: str
    agent_name: str


class SessionDispatchFailed(Event, frozen=True, kw_only=True):
    """The request to create the room with its agent dispatch failed."""

    TYPE: ClassVar[str] = "session.dispatch_failed"
    FAMILY: ClassVar[Family] = Family.SESSION

    attempt: Count
    reason: str
    retryable: bool


class CloseReason(StrEnum):
    """The reason a session closed."""

    CALLER_LEFT = "caller_left"
    AGENT_ENDED = "agent_ended"
    ENDED_BY_API = "ended_by_api"
    ROOM_CLOSED = "room_closed"
    WORKER_SHUTDOWN = "worker_shutdown"
    ERROR = "error"
    CANCELLED = "cancelled"
    MAX_DURATION = "max_duration"
    NO_CALLER = "no_caller"
    SILENCE = "silence"
    TRANSFERRED = "transferred"
    VOICEMAIL = "voicemail"


class FaultSide(StrEnum):
    """The side that caused an abnormal end, if any."""

    NONE = "none"
    CALLER = "caller"
    AGENT = "agent"
    PLATFORM = "platform"


class ParticipantSummary(Struct, frozen=True, kw_only=True):
    """A participant of the session, and when it was in the room."""

    identity: PersonalText
    kind: str
    joined_at: datetime | None = None
    left_at: datetime | None = None


class SessionClosed(Event, frozen=True, kw_only=True):
    """The session closed, after a normal end or an error: its last agent has left."""

    TYPE: ClassVar[str] = "session.closed"
    FAMILY: ClassVar[Family] = Family.SESSION

    reason: CloseReason
    fault: FaultSide
    duration_seconds: Seconds
    turns: Count
    participants: list[ParticipantSummary] = []
    usage: list[ModelUsage] = []
    detail: MaybePersonalText = None
    summary: PersonalText | None = None


class FailureReason(StrEnum):
    """The reason a session failed."""

    DISPATCH_FAILED = "dispatch_failed"
    AGENT_NEVER_READY = "agent_never_ready"
    AGENT_LOST = "agent_lost"
    FLOW_NOT_LOADED = "flow_not_loaded"


class SessionFailed(Event, frozen=True, kw_only=True):
    """The session failed: it was not dispatched, or its agent never became ready or was lost.

    With `flow_not_loaded`, the worker could not load its flow; `detail` has the revision, the lines and why.
    """

    TYPE: ClassVar[str] = "session.failed"
    FAMILY: ClassVar[Family] = Family.SESSION

    reason: FailureReason
    attempts: Count
    detail: MaybePersonalText = None
