"""The room of a session: its name, and whether the room that has the name now is still that one."""

from typing import Protocol

import structlog

from antiphon.contracts.session import Session
from antiphon.session_api.livekit import LiveKitError
from antiphon.session_api.problems import Problem

log = structlog.get_logger(__name__)


class Rooms(Protocol):
    """The part of LiveKit's room service that sessions use."""

    async def create_room(
        self, session_id: str, tenant: str, agent_name: str, *, ttl_seconds: int | None = None
    ) -> str:
        """Create the room if it does not exist, and return its sid; raises LiveKitError."""

    async def delete_room(self, room: str) -> None:
        """Delete the room if it exists; raises LiveKitError."""

    async def room_sid(self, room: str) -> str | None:
        """Return the sid of the room that has this name now, or None; raises LiveKitError."""


def room_name(session: Session) -> str:
    """Return the name of the session's room; an adopted room has a name of its own."""
    return session.room or session.session_id


async def room_is_current(rooms: Rooms, session: Session) -> bool:
    """Return whether the room of this name is that of the session: others may use the name of an adopted one.

    Raises LiveKitError.
    """
    name = room_name(session)
    if name == session.session_id:
        return True
    return session.room_sid is not None and await rooms.room_sid(name) == session.room_sid


def livekit_problem(session_id: str, error: LiveKitError, detail: str) -> Problem:
    """Return the problem for a request that LiveKit did not answer, or refused."""
    log.warning("session.livekit_failed", session_id=session_id, reason=str(error))
    return Problem(
        503 if error.retryable else 502,
        "livekit-unavailable" if error.retryable else "livekit-refused",
        detail,
        retry_after_seconds=2 if error.retryable else None,
        session_id=session_id,
    )
