"""Create a session: publish the request, create the room with its agent dispatch, publish the dispatch."""

from collections.abc import Callable
from datetime import datetime

import structlog
from msgspec import Struct, structs

from antiphon.chassis.bus import BusUnavailable
from antiphon.chassis.http.middleware import bind_session
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
from antiphon.contracts.session import TERMINAL, Session, Status
from antiphon.session_api.flows.checking import missing_metadata
from antiphon.session_api.flows.known import Flows
from antiphon.session_api.livekit import LiveKitError
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.quotas import SessionQuota
from antiphon.session_api.sessions.events import EventPublisher, EventReader
from antiphon.session_api.sessions.idempotency import KnownSessions, replayed_session
from antiphon.session_api.sessions.room import Rooms
from antiphon.session_api.sessions.schemas import CreateRequest

log = structlog.get_logger(__name__)

SHOWN_MISSING = 20  # names in the detail of a problem


class Created(Struct, frozen=True):
    """The session that a request created, or that its idempotency key created earlier."""

    session_id: str
    status: Status
    replayed: bool = False

    @property
    def joinable(self) -> bool:
        """Whether the session can still be joined."""
        return self.status not in TERMINAL

    def reached(self, session: Session | None) -> "Created":
        """Return the same with the status that the session has reached since."""
        return self if session is None else structs.replace(self, status=session.status)


class Version(Struct, frozen=True):
    """What the agent of a session runs: a revision of a flow, or the hash of a draft; `test` tries it."""

    revision: int
    requires: list[str] = []
    draft: str | None = None
    test: bool = False


class CreateSession:
    """The create operation; it needs no Postgres."""

    def __init__(
        self,
        publisher: EventPublisher,
        reader: EventReader,
        rooms: Rooms,
        flows: Flows,
        known: KnownSessions,
        quota: SessionQuota,
        *,
        agent_name: str,
        secret: bytes,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._publisher = publisher
        self._reader = reader
        self._rooms = rooms
        self._flows = flows
        self._known = known
        self._quota = quota
        self._agent_name = agent_name
        self._secret = secret
        self._clock = clock
        self._entropy = entropy

    async def create(
        self, tenant: str, request: CreateRequest, idempotency_key: str | None, version: Version | None = None
    ) -> Created:
        """Create a session, or return the one that was created with this key.

        Without a version it runs the revision that the request names, or the newest one.
        Raises Problem, BusUnavailable.
        """
        version = version or self.version(tenant, request)
        if idempotency_key is not None:
            return await self._create_once(tenant, request, version, idempotency_key)
        _require_metadata(request, version)
        session_id = new_session_id(self._clock(), self._entropy(10))
        bind_session(session_id)
        await self._quota.admit(tenant, session_id)
        try:
            return await self._create_new(tenant, session_id, _event(request, session_id, version))
        except BaseException:
            self._quota.give_back(tenant, session_id)  # one that is there after all is counted in the views
            raise

    def greeting(self, tenant: str, request: CreateRequest, session: Session | None) -> str | None:
        """Return what the agent has said first, or will say: that of its flow; None if that is not known."""
        if session is not None and session.greeting is not None:
            return session.greeting
        if request.flow_id is None:
            return None
        revision = session.flow_revision if session is not None else request.flow_revision
        revision = revision or self._flows.latest_revision(tenant, request.flow_id)
        flow = None if revision is None else self._flows.revision(tenant, request.flow_id, revision)
        return None if flow is None else flow.greeting or None

    def version(self, tenant: str, request: CreateRequest) -> Version:
        """Return what a request names: a revision of a flow, the newest by default, or nothing for an agent.

        Raises Problem 404, 422.
        """
        revision = self._revision(tenant, request)
        flow = self._flows.revision(tenant, request.flow_id, revision) if request.flow_id else None
        return Version(revision, [] if flow is None else flow.requires)

    def _revision(self, tenant: str, request: CreateRequest) -> int:
        """Return the revision of the flow, the newest unless one is named, or 0 for an agent without a flow.

        Raises Problem 404, 422.
        """
        if (request.flow_id is None) == (request.agent_name is None):
            raise invalid("flow_id", "body", "pass exactly one of flow_id and agent_name", "exactly_one")
        if request.flow_id is None:
            if request.agent_name == self._agent_name:
                message = f"{self._agent_name!r} runs flows: pass flow_id instead"
                raise invalid("agent_name", "body", message, "runs_flows")
            if request.flow_revision is not None:
                message = "an agent without a flow has none: leave it out"
                raise invalid("flow_revision", "body", message, "not_together")
            return 0
        wanted = request.flow_revision
        if wanted is not None and self._flows.has_revision(tenant, request.flow_id, wanted):
            return wanted
        revision = self._flows.latest_revision(tenant, request.flow_id)
        if revision is None:
            raise Problem(
                404, "unknown-flow", f"There is no flow {request.flow_id!r}.", flow_id=request.flow_id
            )
        if wanted is not None:
            raise Problem(
                404,
                "unknown-flow",
                f"The flow {request.flow_id!r} has no revision {wanted}; the newest is {revision}.",
                flow_id=request.flow_id,
                flow_revision=wanted,
            )
        return revision

    async def _create_new(self, tenant: str, session_id: str, requested: SessionRequested) -> Created:
        await self._publisher.publish(
            tenant, session_id, requested, event_id=requested_id(session_id), number=0
        )
        try:
            await self._dispatch(tenant, session_id, requested, attempt=1)
        except Problem:
            await self._fail(tenant, session_id)  # without a key no retry can reach this session
            raise
        return Created(session_id, Status.DISPATCHED)

    async def _create_once(
        self, tenant: str, request: CreateRequest, version: Version, idempotency_key: str
    ) -> Created:
        session_id = session_id_for_key(self._secret, tenant, idempotency_key)
        bind_session(session_id)
        requested = _event(request, session_id, version)
        # The stream forgets its sessions after some days, and the views do not.
        known = await self._known.has(tenant, session_id)
        if not known and await self._publish_once(tenant, session_id, requested, request, version):
            await self._dispatch(tenant, session_id, requested, attempt=1)
            return Created(session_id, Status.DISPATCHED)
        newest = request.flow_revision is None
        session = await replayed_session(
            self._reader, tenant, session_id, requested, known=known, any_revision=newest
        )
        return await self._replay(tenant, session)

    async def _publish_once(
        self,
        tenant: str,
        session_id: str,
        requested: SessionRequested,
        request: CreateRequest,
        version: Version,
    ) -> bool:
        """Publish the request, unless an earlier one with its key did: no quota or flow is against that."""
        try:
            _require_metadata(request, version)
            counted = await self._quota.admit(tenant, session_id)
        except Problem:
            if await self._reader.exists(tenant, session_id):
                return False
            raise
        published = False
        try:
            published = await self._publisher.publish_first(tenant, session_id, requested)
        finally:
            if counted and not published:
                self._quota.give_back(tenant, session_id)
        return published

    async def _replay(self, tenant: str, session: Session) -> Created:
        session_id = session.session_id
        if session.ended or session.dispatched_at is not None:
            return Created(session_id, session.status, replayed=True)
        # The dispatch failed, is in progress, or was lost in a crash; repeating it is harmless.
        await self._dispatch(tenant, session_id, session, attempt=session.dispatch_attempts + 1)
        return Created(session_id, Status.DISPATCHED, replayed=True)

    async def _dispatch(
        self, tenant: str, session_id: str, wanted: SessionRequested | Session, *, attempt: int
    ) -> None:
        agent_name = wanted.agent_name or self._agent_name
        try:
            room_sid = await self._rooms.create_room(
                session_id, tenant, agent_name, ttl_seconds=wanted.ttl_seconds
            )
        except LiveKitError as error:
            await self._publish_failure(tenant, session_id, attempt, error)
            raise _dispatch_problem(session_id, error) from error
        dispatched = SessionDispatched(attempt=attempt, room_sid=room_sid, agent_name=agent_name)
        event_id = dispatched_id(session_id, attempt)
        try:
            await self._publisher.publish(tenant, session_id, dispatched, event_id=event_id, number=attempt)
        except BusUnavailable:
            await self._clean_up_room(session_id)
            raise

    async def _publish_failure(self, tenant: str, session_id: str, attempt: int, error: LiveKitError) -> None:
        log.warning("session.dispatch_failed", attempt=attempt, reason=str(error))
        failed = SessionDispatchFailed(attempt=attempt, reason=str(error), retryable=error.retryable)
        event_id = dispatch_failed_id(session_id, attempt)
        await self._publisher.publish(tenant, session_id, failed, event_id=event_id, number=attempt)

    async def _fail(self, tenant: str, session_id: str) -> None:
        failed = SessionFailed(reason=FailureReason.DISPATCH_FAILED, attempts=1)
        await self._publisher.publish(tenant, session_id, failed, event_id=f"{session_id}:failed", number=2)

    async def _clean_up_room(self, session_id: str) -> None:
        # The caller gets an error, so no agent may wait in this room.
        try:
            await self._rooms.delete_room(session_id)
        except LiveKitError as error:
            log.warning("session.room_cleanup_failed", reason=str(error))


def _event(request: CreateRequest, session_id: str, version: Version) -> SessionRequested:
    event = request.as_event(session_id, version.revision)
    return structs.replace(event, test=True, flow_draft=version.draft) if version.test else event


def _require_metadata(request: CreateRequest, version: Version) -> None:
    """Raise Problem 422 for a session whose metadata has not what its flow needs."""
    if missing := missing_metadata(version.requires, request.metadata or {}):
        errors = [
            {"field": name, "in": "body", "message": "is required by the flow", "code": "missing"}
            for name in missing
        ]
        shown = ", ".join(missing[:SHOWN_MISSING])
        detail = f"The flow {request.flow_id!r} needs in the session's metadata: {shown}."
        raise Problem(422, "invalid-request", detail, errors=errors)


def _dispatch_problem(session_id: str, error: LiveKitError) -> Problem:
    if error.retryable:
        return Problem(
            503,
            "livekit-unavailable",
            "LiveKit is unavailable; try again.",
            retry_after_seconds=2,
            session_id=session_id,
        )
    return Problem(
        502,
        "livekit-refused",
        "LiveKit refused to create the room; an operator must check the credentials and LiveKit's log.",
        session_id=session_id,
    )
