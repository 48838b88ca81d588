"""Look up one session: in the views, or on the bus until it is committed."""

import msgspec

from antiphon.chassis.log import Log, Page
from antiphon.contracts.ids import is_session_id
from antiphon.contracts.session import Session
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.bounded import Listed
from antiphon.session_api.sessions.events import EventReader
from antiphon.session_api.sessions.log_end import LogEnd, beyond_the_end
from antiphon.session_api.sessions.queries import Views

_session = msgspec.json.Decoder(Session)


def unknown_session(session_id: str) -> Problem:
    """Return the problem for a session that the caller's tenant does not have."""
    return Problem(404, "unknown-session", "There is no such session.", session_id=session_id)


def valid_session_id(session_id: str) -> str:
    """Return the id if it is well-formed; other text must not become part of a subject.

    Raises Problem 404.
    """
    if not is_session_id(session_id):
        raise unknown_session(session_id[:64])
    return session_id


class Lookup:
    """Lookup of a tenant's sessions; those of other tenants are unknown."""

    def __init__(self, views: Views, reader: EventReader, log: Log) -> None:
        self._views = views
        self._reader = reader
        self._log = log

    async def session(self, tenant: str, session_id: str) -> bytes:
        """Return the session as JSON.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        view = await self._views.session(tenant, session_id)
        if view is not None:
            return view
        session = await self._reader.session(tenant, session_id)
        if session is None:
            raise unknown_session(session_id)
        return msgspec.json.encode(session)

    async def outline(self, tenant: str, session_id: str) -> Session:
        """Return the session as far as joining and ending need it: request, dispatch and end.

        Postgres is queried only for sessions that the stream no longer holds.
        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        session = await self._reader.outline(tenant, session_id)
        if session is not None:
            return session
        view = await self._views.session(tenant, session_id)
        if view is None:
            raise unknown_session(session_id)
        return _session.decode(view)

    async def turns(self, tenant: str, session_id: str, after: int, limit: int) -> Listed[tuple[int, str]]:
        """Return the turns that began after a sequence, in order, each with that sequence and as JSON.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        turns = await self._views.turns(tenant, session_id, after, limit)
        if not turns.items:
            await self.require(tenant, session_id)
        return turns

    async def events(self, tenant: str, session_id: str, after: int, limit: int) -> Page:
        """Return committed events after a sequence, and whether there are more.

        Raises Problem 404, Problem 422 for a sequence that is not committed, DatabaseUnavailable,
        BusUnavailable.
        """
        page = await self._log.read_page(tenant, session_id, after=after, limit=limit)
        if not page.envelopes:
            await self.log_end(tenant, session_id, after)
        return page

    async def log_end(self, tenant: str, session_id: str, after: int) -> LogEnd:
        """Return the end of what is committed of a session, for a reader that has the events up to `after`.

        An event is announced once it is committed, so no reader has one that is not.
        Raises Problem 404, Problem 422 for a sequence that is not committed, DatabaseUnavailable,
        BusUnavailable.
        """
        end = await self._views.log_end(tenant, session_id)
        if not end.last and not await self._reader.exists(tenant, session_id):
            raise unknown_session(session_id)
        if after > end.last:
            raise beyond_the_end(session_id, after, end.last)
        return end

    async def require(self, tenant: str, session_id: str) -> None:
        """Require that a session exists, committed or not.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        if await self._log.read_session(tenant, session_id, limit=1):
            return
        if not await self._reader.exists(tenant, session_id):
            raise unknown_session(session_id)
