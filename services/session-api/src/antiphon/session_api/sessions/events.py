"""A session's events on the bus: published by session-api, and read before they are in Postgres."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from antiphon.chassis.bus import Bus, GroupCommit, Incoming, Outgoing, SubjectNotEmpty, outgoing
from antiphon.chassis.tracing import current_traceparent, publishing
from antiphon.contracts.envelope import Envelope, decode, seal
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.event import Event, Family
from antiphon.contracts.ids import requested_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import Session, fold
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import event_subject, session_filter

PRODUCER = "session-api"

log = structlog.get_logger(__name__)


class EventPublisher:
    """Publisher of session-api's events; concurrent requests share the broker's fsyncs."""

    def __init__(self, bus: Bus, clock: Callable[[], datetime], *, timeout_seconds: float) -> None:
        self._bus = bus
        self._group = GroupCommit(bus, timeout_seconds=timeout_seconds)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def publish(
        self, tenant: str, session_id: str, event: Event, *, event_id: str, number: int
    ) -> None:
        """Publish an event of a session; publishing the same id again changes nothing.

        Raises BusUnavailable.
        """
        with publishing(SESSIONS.name):
            await self._group.publish(self._seal(tenant, session_id, event, event_id, number))

    async def publish_first(self, tenant: str, session_id: str, event: Event) -> bool:
        """Publish the first event of a session; return False when the session has events already.

        Raises BusUnavailable.
        """
        with publishing(SESSIONS.name):
            message = self._seal(tenant, session_id, event, requested_id(session_id), 0)
            try:
                ack = await self._bus.publish(
                    message,
                    expect_empty=session_filter(tenant, session_id),
                    timeout_seconds=self._timeout_seconds,
                )
            except SubjectNotEmpty:
                return False
        return not ack.duplicate

    def _seal(self, tenant: str, session_id: str, event: Event, event_id: str, number: int) -> Outgoing:
        envelope = seal(
            event,
            id=event_id,
            session_id=session_id,
            tenant=tenant,
            producer=PRODUCER,
            producerseq=number,
            time=self._clock(),
            traceparent=current_traceparent(),
        )
        return outgoing(envelope)


class EventReader:
    """Reader of one session's events on the bus, for as long as the stream retains them.

    Every method raises BusUnavailable and HistoryGap.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def events(self, tenant: str, session_id: str) -> list[Envelope]:
        """Return all events of the session, without those that ingest will reject."""
        return await self._read(session_filter(tenant, session_id))

    async def session(self, tenant: str, session_id: str) -> Session | None:
        """Return the session folded from all its events, or None when it has none."""
        events = await self.events(tenant, session_id)
        return fold(session_id, tenant, events) if events else None

    async def outline(self, tenant: str, session_id: str) -> Session | None:
        """Return the session folded from its few `session` events only, or None when it has none."""
        events = await self._read(event_subject(tenant, session_id, Family.SESSION))
        return fold(session_id, tenant, events) if events else None

    async def exists(self, tenant: str, session_id: str) -> bool:
        """Return whether the session has any event."""
        return await self._bus.last(session_filter(tenant, session_id)) is not None

    async def agent_joined(self, tenant: str, session_id: str) -> bool:
        """Return whether the session has any event of an agent."""
        return await self._bus.last(event_subject(tenant, session_id, Family.AGENT)) is not None

    async def _read(self, subject_filter: str) -> list[Envelope]:
        decoded = [_decode(incoming) async for incoming in self._bus.read(subject_filter)]
        return [envelope for envelope in decoded if envelope is not None]


def _decode(incoming: Incoming) -> Envelope | None:
    """Return the envelope, or None for a message that ingest will store as a dead letter."""
    try:
        envelope = decode(incoming.payload)
        with suppress(UnknownEventType, UnsupportedEventVersion):  # from a newer producer, and valid
            open_event(envelope)
    except MalformedEvent as error:
        log.warning("events.malformed", position=incoming.position, error=str(error))
        return None
    return envelope
