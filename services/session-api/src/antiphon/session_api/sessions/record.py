"""What the log on the bus says of one session: there at once, with Postgres or without."""

from contextlib import suppress

import structlog

from antiphon.chassis.bus import Bus, Incoming
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.event import Family
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import Session, fold
from antiphon.contracts.subjects import event_subject, session_filter

log = structlog.get_logger(__name__)


class Record:
    """Read one session from the bus, as long as the stream keeps it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def events(self, tenant: str, session_id: str) -> list[Envelope]:
        """Return every event of the session."""
        return await self._read(session_filter(tenant, session_id))

    async def session(self, tenant: str, session_id: str) -> Session | None:
        """Return the session as all its events tell it, or None when there are none."""
        events = await self.events(tenant, session_id)
        return fold(session_id, tenant, events) if events else None

    async def outline(self, tenant: str, session_id: str) -> Session | None:
        """Return the session as its few `session` events tell it: asked for, dispatched, ended."""
        events = await self._read(event_subject(tenant, session_id, Family.SESSION))
        return fold(session_id, tenant, events) if events else None

    async def exists(self, tenant: str, session_id: str) -> bool:
        """Say whether the bus holds any event of the session."""
        return await self._bus.last(session_filter(tenant, session_id)) is not None

    async def agent_came(self, tenant: str, session_id: str) -> bool:
        """Say whether an agent has ever joined the session."""
        return await self._bus.last(event_subject(tenant, session_id, Family.AGENT)) is not None

    async def _read(self, subject_filter: str) -> list[Envelope]:
        judged = [_judged(incoming) async for incoming in self._bus.read(subject_filter)]
        return [envelope for envelope in judged if envelope is not None]


def _judged(incoming: Incoming) -> Envelope | None:
    """Return the envelope, or None for what ingest will put among the dead letters."""
    try:
        envelope = decode(incoming.payload)
        with suppress(UnknownEventType, UnsupportedEventVersion):  # a newer producer's: part of the log
            open_event(envelope)
    except MalformedEvent as error:
        log.warning("record.malformed", position=incoming.position, error=str(error))
        return None
    return envelope
