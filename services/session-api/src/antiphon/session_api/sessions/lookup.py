"""Find a session: in the views, or on the bus while they have not got it yet."""

import re

import msgspec

from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.queries import Views
from antiphon.session_api.sessions.record import Record

SESSION_ID = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")

_session = msgspec.json.Decoder(Session)


def unknown_session(session_id: str) -> Problem:
    """Say that the caller's tenant has no such session."""
    return Problem(404, "unknown-session", "There is no such session.", session_id=session_id)


def well_formed(session_id: str) -> str:
    """Return the id when it can be one; anything else names no session, and must not reach a subject."""
    if SESSION_ID.fullmatch(session_id) is None:
        raise unknown_session(session_id[:64])
    return session_id


class Lookup:
    """Look a session up for one tenant; what belongs to another tenant is not there."""

    def __init__(self, views: Views, record: Record, log: Log) -> None:
        self._views = views
        self._record = record
        self._log = log

    async def whole(self, tenant: str, session_id: str) -> bytes:
        """Return the session as JSON.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        view = await self._views.session(tenant, session_id)
        if view is not None:
            return view.encode()
        session = await self._record.session(tenant, session_id)
        if session is None:
            raise unknown_session(session_id)
        return msgspec.json.encode(session)

    async def outline(self, tenant: str, session_id: str) -> Session:
        """Return what decides whether a session can be joined or ended.

        Postgres is asked only about sessions that the stream no longer holds.
        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        session = await self._record.outline(tenant, session_id)
        if session is not None:
            return session
        view = await self._views.session(tenant, session_id)
        if view is None:
            raise unknown_session(session_id)
        return _session.decode(view)

    async def turns(self, tenant: str, session_id: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return turns of a session that there is.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        turns = await self._views.turns(tenant, session_id, after, limit)
        if not turns:
            await self._require(tenant, session_id)
        return turns

    async def events(self, tenant: str, session_id: str, after: int, limit: int) -> list[Envelope]:
        """Return committed events of a session that there is.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        events = await self._log.read_session(tenant, session_id, after=after, limit=limit)
        if not events:
            await self._require(tenant, session_id)
        return events

    async def ended_at_sequence(self, tenant: str, session_id: str) -> int | None:
        """Return the sequence of the session's end, or None while it goes on.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        ended_at = await self._views.ended_at_sequence(tenant, session_id)
        if ended_at is None:
            await self._require(tenant, session_id)
        return ended_at

    async def _require(self, tenant: str, session_id: str) -> None:
        if await self._log.read_session(tenant, session_id, limit=1):
            return
        if not await self._record.exists(tenant, session_id):
            raise unknown_session(session_id)
