"""The reason why a session ended, and the side that was at fault."""

from dataclasses import dataclass
from typing import Any

from livekit.agents import AgentSession, CloseEvent

from antiphon.contracts.events.session import CloseReason, FailureReason, FaultSide, SessionFailed
from antiphon.recorder import livekit_internals
from antiphon.recorder.conversation import Conversation

REPLACED = "duplicate_identity"  # a newer job serves the session: this one must not close it
_ENDED_BY_API = frozenset({"room_deleted", "participant_removed"})
_EMPTY_ROOM = "room_closed"  # LiveKit closes a room in which only agents are left


Closing = tuple[CloseReason, FaultSide, str | None]


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The signals that determine why a session ended.

    The reasons are LiveKit's: of the session's close event, of the room's disconnect, of the last
    participant's disconnect.
    """

    session_reason: str | None = None
    room_reason: str | None = None
    departure_reason: str | None = None
    participant_joined: bool = False
    hung_up: bool = False  # by the agent: it deleted the room or removed the caller
    limit: CloseReason | None = None  # of the session, at which the recorder ended the call
    intent: Closing | None = None  # the agent hangs up, or its caller leaves, for this reason
    ended_by_code: bool = False  # by the agent or its job, not by the worker
    failure: str | None = None


class EndSignals:
    """The signals during a job that determine why it ended."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.failed_for: FailureReason | None = None  # the session could not start
        self.shutdown_called = False
        self.hung_up = False
        self.limit: CloseReason | None = None
        self.intent: Closing | None = None  # of the agent, why the call ends

    def on_shutdown(self) -> None:
        """The agent's code ends the job."""
        self.shutdown_called = True

    def on_hang_up(self) -> None:
        """The agent's code deletes the room, or removes the caller."""
        self.hung_up = True

    def session_failed(self) -> SessionFailed | None:
        """Return how the session failed, if it could not start; else it closes."""
        if self.failed_for is None:
            return None
        return SessionFailed(reason=self.failed_for, attempts=1, detail=self.failure)


class AttachedSession:
    """A session that is recorded, and how it closed."""

    def __init__(self, session: AgentSession[Any], conversation: Conversation) -> None:
        self.session = session
        self.conversation = conversation
        self.closed: CloseEvent | None = None
        self._closed_by_job_task = False

    def on_aclose(self) -> None:
        """Note whether the job's task closes the session; LiveKit gives code that does the same reason."""
        self._closed_by_job_task = livekit_internals.in_job_task()

    @property
    def closed_by_code(self) -> bool:
        """Whether the agent's code closed it, and not the job's end (`job_shutdown` of a second session)."""
        by_user = self.closed is not None and self.closed.reason.value == "user_initiated"
        return by_user and not self._closed_by_job_task


def close_reason(end: SessionEnd) -> Closing:
    """Return reason, fault and detail.

    The first that applies of: limit of the session, API, error, intent of the agent, caller, agent, room,
    worker.
    """
    if end.limit is not None:
        fault = FaultSide.CALLER if end.limit is CloseReason.NO_CALLER else FaultSide.NONE
        return end.limit, fault, None
    if not end.hung_up and (end.room_reason in _ENDED_BY_API or end.departure_reason == "room_deleted"):
        return CloseReason.ENDED_BY_API, FaultSide.NONE, None
    if end.failure is not None or end.session_reason == "error":
        return CloseReason.ERROR, FaultSide.AGENT, end.failure
    chosen = _chosen(end)
    if chosen is not None:
        return chosen
    if end.room_reason == _EMPTY_ROOM:
        return _empty_room_reason(end)
    if end.room_reason is not None:
        return CloseReason.ROOM_CLOSED, FaultSide.PLATFORM, end.room_reason
    return CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM, None


def _chosen(end: SessionEnd) -> Closing | None:
    """Return the reason of an end that agent or caller chose."""
    if end.intent is not None:
        return end.intent
    if end.session_reason == "participant_disconnected" and not end.hung_up:
        return CloseReason.CALLER_LEFT, FaultSide.NONE, None
    if end.session_reason == "task_completed" or end.ended_by_code or end.hung_up:
        return CloseReason.AGENT_ENDED, FaultSide.NONE, None
    return None


def _empty_room_reason(end: SessionEnd) -> Closing:
    if end.participant_joined:
        return CloseReason.CALLER_LEFT, FaultSide.CALLER, end.departure_reason
    return CloseReason.ROOM_CLOSED, FaultSide.CALLER, "the caller never came"
