"""End a session: publish the command, delete the room, and close the session if no agent has joined."""

from collections.abc import Callable
from datetime import datetime

from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.ids import closed_id
from antiphon.contracts.session import Session
from antiphon.session_api.auth import ApiKey
from antiphon.session_api.livekit import LiveKitError
from antiphon.session_api.sessions.events import EventPublisher, EventReader
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.room import Rooms, livekit_problem, room_is_current, room_name
from antiphon.session_api.sessions.schemas import EndResponse

COMMAND = "end"  # verb and command id: a session ends once, so a repeated request is the same event


class EndSession:
    """The end operation; ending a session that has ended changes nothing."""

    def __init__(
        self,
        lookup: Lookup,
        reader: EventReader,
        publisher: EventPublisher,
        rooms: Rooms,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._lookup = lookup
        self._reader = reader
        self._publisher = publisher
        self._rooms = rooms
        self._clock = clock

    async def end(self, key: ApiKey, session_id: str) -> EndResponse:
        """End a session.

        Raises Problem, DatabaseUnavailable, BusUnavailable.
        """
        session = await self._lookup.outline(key.tenant, session_id)
        if session.ended:
            return EndResponse(session_id=session_id, ended=True)
        command = CommandRequested(command_id=COMMAND, verb=COMMAND, actor=key.actor)
        number = session.dispatch_attempts + 1
        event_id = f"{session_id}:command:{COMMAND}"
        await self._publisher.publish(key.tenant, session_id, command, event_id=event_id, number=number)
        await self._delete_room(session)
        if await self._reader.agent_joined(key.tenant, session_id):
            return EndResponse(session_id=session_id, ended=False)
        await self._close(key.tenant, session, number + 1)
        return EndResponse(session_id=session_id, ended=True)

    async def _delete_room(self, session: Session) -> None:
        try:
            if await room_is_current(self._rooms, session):
                await self._rooms.delete_room(room_name(session))
        except LiveKitError as error:
            detail = "The end request is recorded, but LiveKit did not delete the room."
            raise livekit_problem(session.session_id, error, detail) from error

    async def _close(self, tenant: str, session: Session, number: int) -> None:
        started_at = session.created_at or self._clock()
        closed = SessionClosed(
            reason=CloseReason.CANCELLED,
            fault=FaultSide.NONE,
            duration_seconds=max(0.0, (self._clock() - started_at).total_seconds()),
            turns=0,
            detail="ended before an agent joined",
        )
        event_id = closed_id(session.session_id)
        await self._publisher.publish(tenant, session.session_id, closed, event_id=event_id, number=number)
