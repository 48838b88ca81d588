"""The reason why a session ended, and the side that was at fault."""

from dataclasses import dataclass

from antiphon.contracts.events.session import CloseReason, FaultSide

REPLACED = "duplicate_identity"  # a newer job serves the session: this one must not close it
_ENDED_BY_API = frozenset({"room_deleted", "participant_removed"})
_EMPTY_ROOM = "room_closed"  # LiveKit closes a room in which only agents are left


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
    ended_by_code: bool = False  # by the agent or its job, not by the worker
    failure: str | None = None


Closing = tuple[CloseReason, FaultSide, str | None]


def close_reason(end: SessionEnd) -> Closing:
    """Return reason, fault and detail.

    The first that applies of: limit of the session, API, error, caller, agent, room, worker.
    """
    if end.limit is not None:
        fault = FaultSide.CALLER if end.limit is CloseReason.NO_CALLER else FaultSide.NONE
        return end.limit, fault, None
    if not end.hung_up and (end.room_reason in _ENDED_BY_API or end.departure_reason == "room_deleted"):
        return CloseReason.ENDED_BY_API, FaultSide.NONE, None
    if end.failure is not None or end.session_reason == "error":
        return CloseReason.ERROR, FaultSide.AGENT, end.failure
    if end.session_reason == "participant_disconnected" and not end.hung_up:
        return CloseReason.CALLER_LEFT, FaultSide.NONE, None
    if end.session_reason == "task_completed" or end.ended_by_code or end.hung_up:
        return CloseReason.AGENT_ENDED, FaultSide.NONE, None
    if end.room_reason == _EMPTY_ROOM:
        return _empty_room_reason(end)
    if end.room_reason is not None:
        return CloseReason.ROOM_CLOSED, FaultSide.PLATFORM, end.room_reason
    return CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM, None


def _empty_room_reason(end: SessionEnd) -> Closing:
    if end.participant_joined:
        return CloseReason.CALLER_LEFT, FaultSide.CALLER, end.departure_reason
    return CloseReason.ROOM_CLOSED, FaultSide.CALLER, "the caller never came"
