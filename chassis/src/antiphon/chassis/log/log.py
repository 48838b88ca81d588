"""Read and follow the log of record."""

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log.follow import follow
from antiphon.chassis.log.follow_session import follow_session
from antiphon.chassis.log.reading import Batches, Envelopes, read_session
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

PAGE = 1000


class Log:
    """Offer the event log to those who read it."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def read_session(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int = PAGE
    ) -> list[Envelope]:
        """Return a session's committed envelopes after a sequence, at most `limit`.

        Raises DatabaseUnavailable.
        """
        return await read_session(self._database, tenant, session_id, after, limit)

    def follow_session(self, tenant: str, session_id: str, *, after: int = 0) -> Envelopes:
        """Iterate over a session's events from a sequence on, for ever: history, then live, with no gap."""
        return follow_session(self._database, self._bus, tenant, session_id, after)

    def follow(self, cursor: Cursor, *, batch: int = 500) -> Batches:
        """Iterate over everything committed after a cursor, for ever, in order within each session.

        A list holds at most `batch` envelopes; the cursor after it is `cursor.advanced(envelopes)`.
        """
        return follow(self._database, self._bus, cursor, batch)
