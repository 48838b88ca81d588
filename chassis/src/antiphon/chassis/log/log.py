"""The event log of all sessions, as its readers use it."""

from collections.abc import AsyncGenerator

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log.follow import follow_partitions, follow_session
from antiphon.chassis.log.read import Page, read_session
from antiphon.chassis.log.session_follower import SessionFollower
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

PAGE = 1000
BATCH = 500


class Log:
    """Read access to the event log."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def read_session(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int = PAGE
    ) -> list[Envelope]:
        """Return a session's committed envelopes after a sequence: at most `limit`, fewer if they are large.

        Raises DatabaseUnavailable.
        """
        return (await self.read_page(tenant, session_id, after=after, limit=limit)).envelopes

    async def read_page(self, tenant: str, session_id: str, *, after: int, limit: int) -> Page:
        """Return the same, and whether there is more.

        Raises DatabaseUnavailable.
        """
        return await read_session(self._database, tenant, session_id, after, limit)

    def follower(
        self, tenant: str, session_id: str, *, after: int = 0, announced: bool = True
    ) -> SessionFollower:
        """Return a follower of a session's events after a sequence, to be closed."""
        return SessionFollower(self._database, self._bus, tenant, session_id, after, announced=announced)

    def follow_session(
        self, tenant: str, session_id: str, *, after: int = 0
    ) -> AsyncGenerator[Envelope, None]:
        """Yield a session's events after a sequence: history, then live, without gaps and without end."""
        return follow_session(self._database, self._bus, tenant, session_id, after)

    def follow(self, cursor: Cursor, *, batch: int = BATCH) -> AsyncGenerator[list[Envelope], None]:
        """Yield everything committed after a cursor, in order within each session, without end.

        A list holds at most `batch` envelopes; the cursor after it is `cursor.advanced(envelopes)`. An empty
        list says that a read found nothing more.
        """
        return follow_partitions(self._database, self._bus, cursor, batch)
