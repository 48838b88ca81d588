"""End a session: the wish goes onto the log, the room goes away, and somebody says the last word."""

from collections.abc import Callable
from datetime import datetime

import structlog

from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.session import Session
from antiphon.session_api.keys import ApiKey
from antiphon.session_api.livekit import LiveKitError
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.create import Rooms
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.producer import Producer
from antiphon.session_api.sessions.record import Record
from antiphon.session_api.sessions.schemas import EndResponse

COMMAND = "end"  # there is one end, so the command's id is its verb, and a repeated DELETE is the same event

log = structlog.get_logger(__name__)


class EndSession:
    """End sessions; ending one that has ended changes nothing."""

    def __init__(
        self,
        lookup: Lookup,
        record: Record,
        producer: Producer,
        rooms: Rooms,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._lookup = lookup
        self._record = record
        self._producer = producer
        self._rooms = rooms
        self._clock = clock

    async def end(self, key: ApiKey, session_id: str) -> EndResponse:
        """Ask for the end, delete the room, and close the session here when no agent is there to do it.

        Raises Problem, DatabaseUnavailable, BusUnavailable.
        """
        session = await self._lookup.outline(key.tenant, session_id)
        if session.ended:
            return EndResponse(session_id=session_id, ended=True)
        wish = CommandRequested(command_id=COMMAND, verb=COMMAND, actor=key.actor)
        number = session.dispatch_attempts + 1
        event_id = f"{session_id}:command:{COMMAND}"
        await self._producer.publish(key.tenant, session_id, wish, event_id=event_id, number=number)
        await self._delete_room(session_id)
        if await self._record.agent_came(key.tenant, session_id):
            return EndResponse(session_id=session_id, ended=False)
        await self._close(key.tenant, session, number + 1)
        return EndResponse(session_id=session_id, ended=True)

    async def _delete_room(self, session_id: str) -> None:
        try:
            await self._rooms.delete_room(session_id)
        except LiveKitError as error:
            log.warning("session.room_not_deleted", session_id=session_id, reason=str(error))
            raise Problem(
                503 if error.retryable else 502,
                "livekit-unavailable" if error.retryable else "livekit-refused",
                "The wish to end is on the log, but LiveKit did not delete the room.",
                retry_after_seconds=2 if error.retryable else None,
                session_id=session_id,
            ) from error

    async def _close(self, tenant: str, session: Session, number: int) -> None:
        began = session.created_at or self._clock()
        closed = SessionClosed(
            reason=CloseReason.CANCELLED,
            fault=FaultSide.NONE,
            duration_seconds=max(0.0, (self._clock() - began).total_seconds()),
            turns=0,
            detail="ended before an agent joined",
        )
        event_id = f"{session.session_id}:closed"
        await self._producer.publish(tenant, session.session_id, closed, event_id=event_id, number=number)
