"""Create a session: onto the log first, then a room with the wish for an agent, then a token."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog
from msgspec import Struct

from antiphon.chassis.bus import BusUnavailable
from antiphon.contracts.events.session import (
    FailureReason,
    SessionDispatched,
    SessionDispatchFailed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.ids import (
    dispatch_failed_id,
    dispatched_id,
    new_session_id,
    requested_id,
    session_id_for_key,
)
from antiphon.contracts.session import TERMINAL, Status
from antiphon.session_api.flows import Flows
from antiphon.session_api.livekit import LiveKitError
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.idempotency import first_request
from antiphon.session_api.sessions.producer import Producer
from antiphon.session_api.sessions.record import Record
from antiphon.session_api.sessions.schemas import CreateRequest

log = structlog.get_logger(__name__)


class Rooms(Protocol):
    """What a create needs of LiveKit."""

    async def create_room(self, session_id: str, tenant: str) -> str:
        """Make the room, or find it made, and return its sid; raises LiveKitError."""

    async def delete_room(self, session_id: str) -> None:
        """Delete the room if it is there; raises LiveKitError."""


class Created(Struct, frozen=True):
    """Say which session the caller now has."""

    session_id: str
    status: Status
    replayed: bool = False

    @property
    def joinable(self) -> bool:
        """Whether there is still something to join."""
        return self.status not in TERMINAL


class CreateSession:
    """Create sessions without touching Postgres."""

    def __init__(
        self,
        producer: Producer,
        record: Record,
        rooms: Rooms,
        flows: Flows,
        *,
        agent_name: str,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._producer = producer
        self._record = record
        self._rooms = rooms
        self._flows = flows
        self._agent_name = agent_name
        self._clock = clock
        self._entropy = entropy

    async def create(self, tenant: str, request: CreateRequest, idempotency_key: str | None) -> Created:
        """Create the session, or find the one that the key stands for.

        Raises Problem, BusUnavailable.
        """
        revision = self._flows.latest_revision(tenant, request.flow_id)
        if revision is None:
            raise Problem(
                404, "unknown-flow", f"There is no flow {request.flow_id!r}.", flow_id=request.flow_id
            )
        if idempotency_key is not None:
            return await self._create_once(tenant, request, revision, idempotency_key)
        session_id = new_session_id(self._clock(), self._entropy(10))
        requested = request.as_event(session_id, revision)
        await self._producer.publish(
            tenant, session_id, requested, event_id=requested_id(session_id), number=0
        )
        try:
            await self._dispatch(tenant, session_id, attempt=1)
        except Problem:
            await self._give_up(tenant, session_id)  # no key, so nobody can ever ask for this one again
            raise
        return Created(session_id, Status.DISPATCHED)

    async def _create_once(
        self, tenant: str, request: CreateRequest, revision: int, idempotency_key: str
    ) -> Created:
        session_id = session_id_for_key(tenant, idempotency_key)
        requested = request.as_event(session_id, revision)
        if await self._producer.publish_first(tenant, session_id, requested):
            await self._dispatch(tenant, session_id, attempt=1)
            return Created(session_id, Status.DISPATCHED)
        return await self._replay(tenant, session_id, requested)

    async def _replay(self, tenant: str, session_id: str, requested: SessionRequested) -> Created:
        session = await first_request(self._record, tenant, session_id, requested)
        if session.ended or session.dispatched_at is not None:
            return Created(session_id, session.status, replayed=True)
        # Dispatching failed, or is under way: asking again is harmless, and heals a create that died here.
        await self._dispatch(tenant, session_id, attempt=session.dispatch_attempts + 1)
        return Created(session_id, Status.DISPATCHED, replayed=True)

    async def _dispatch(self, tenant: str, session_id: str, *, attempt: int) -> None:
        try:
            room_sid = await self._rooms.create_room(session_id, tenant)
        except LiveKitError as error:
            await self._note_failure(tenant, session_id, attempt, error)
            raise _dispatch_problem(session_id, error) from error
        dispatched = SessionDispatched(attempt=attempt, room_sid=room_sid, agent_name=self._agent_name)
        event_id = dispatched_id(session_id, attempt)
        try:
            await self._producer.publish(tenant, session_id, dispatched, event_id=event_id, number=attempt)
        except BusUnavailable:
            await self._unmake_room(session_id)
            raise

    async def _note_failure(self, tenant: str, session_id: str, attempt: int, error: LiveKitError) -> None:
        log.warning("session.dispatch_failed", session_id=session_id, attempt=attempt, reason=str(error))
        failed = SessionDispatchFailed(attempt=attempt, reason=str(error), retryable=error.retryable)
        event_id = dispatch_failed_id(session_id, attempt)
        await self._producer.publish(tenant, session_id, failed, event_id=event_id, number=attempt)

    async def _give_up(self, tenant: str, session_id: str) -> None:
        failed = SessionFailed(reason=FailureReason.DISPATCH_FAILED, attempts=1)
        await self._producer.publish(tenant, session_id, failed, event_id=f"{session_id}:failed", number=2)

    async def _unmake_room(self, session_id: str) -> None:
        # The caller is told that nothing was made: an agent must not wait there for nobody.
        try:
            await self._rooms.delete_room(session_id)
        except LiveKitError as error:
            log.warning("session.room_left_behind", session_id=session_id, reason=str(error))


def _dispatch_problem(session_id: str, error: LiveKitError) -> Problem:
    if error.retryable:
        return Problem(
            503,
            "livekit-unavailable",
            "LiveKit does not answer; try again.",
            retry_after_seconds=2,
            session_id=session_id,
        )
    return Problem(
        502,
        "livekit-refused",
        "LiveKit refused to make the room; an operator must look at its credentials and its log.",
        session_id=session_id,
    )
