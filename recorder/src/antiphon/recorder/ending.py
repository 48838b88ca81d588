"""Why a session ended, and whose fault it was, from what is known when it does."""

from dataclasses import dataclass

from antiphon.contracts.events.session import CloseReason, FaultSide

REPLACED = "duplicate_identity"  # a newer job has taken the session over: it is not for us to close it
_ENDED_BY_API = frozenset({"room_deleted", "participant_removed"})
_EMPTY = "room_closed"  # LiveKit closes a room that nobody but agents is in


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at the end of a session.

    Reasons are LiveKit's: of the session's close event, of the room's disconnect, of the caller's leaving.
    """

    session_reason: str | None = None
    room_reason: str | None = None
    departure_reason: str | None = None
    anybody_came: bool = False
    told_to_stop: bool = False  # by the flow or by other code of the job, not by the worker
    failure: str | None = None


Verdict = tuple[CloseReason, FaultSide, str | None]


def judge(facts: Facts) -> Verdict:
    """Return reason, fault and detail; the first that applies of: API, error, caller, agent, room, worker."""
    if facts.room_reason in _ENDED_BY_API or facts.departure_reason == "room_deleted":
        return CloseReason.ENDED_BY_API, FaultSide.NONE, None
    if facts.failure is not None or facts.session_reason == "error":
        return CloseReason.ERROR, FaultSide.AGENT, facts.failure
    if facts.session_reason == "participant_disconnected":
        return CloseReason.CALLER_LEFT, FaultSide.NONE, None
    if facts.session_reason == "task_completed" or facts.told_to_stop:
        return CloseReason.AGENT_ENDED, FaultSide.NONE, None
    if facts.room_reason == _EMPTY:
        return _judge_empty_room(facts)
    if facts.room_reason is not None:
        return CloseReason.ROOM_CLOSED, FaultSide.PLATFORM, facts.room_reason
    return CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM, None


def _judge_empty_room(facts: Facts) -> Verdict:
    if facts.anybody_came:
        return CloseReason.CALLER_LEFT, FaultSide.CALLER, facts.departure_reason
    return CloseReason.ROOM_CLOSED, FaultSide.CALLER, "the caller never came"
