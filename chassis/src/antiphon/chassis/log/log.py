"""The event log of all sessions, as its readers use it."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log.batches import Batch, PartitionReader
from antiphon.chassis.log.follow import OnOutage, follow_partitions, follow_session, read_to
from antiphon.chassis.log.notify import ALL_PARTITIONS, Notifications
from antiphon.chassis.log.partitions import Filter, heads
from antiphon.chassis.log.read import Page, read_session
from antiphon.chassis.log.session_follower import SessionFollower
from antiphon.chassis.log.times import positions_before
from antiphon.contracts.cursor import Cursor, InvalidCursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS

PAGE = 1000
BATCH = 500


class Log:
    """Read access to the event log; without a bus it can be read, not followed."""

    def __init__(self, database: Database, bus: Bus | None) -> None:
        self._database = database
        self._optional_bus = bus
        self._notifications = None if bus is None else Notifications(bus)

    @property
    def _bus(self) -> Bus:
        if self._optional_bus is None:
            raise ValueError("this log was opened without a bus: it can be read, not followed")
        return self._optional_bus

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

    def follow(
        self,
        cursor: Cursor,
        *,
        types: Collection[str] | None = None,
        tenant: str | None = None,
        partitions: Collection[int] | None = None,
        batch: int = BATCH,
        prefetch: bool = False,
        on_outage: OnOutage | None = None,
    ) -> AsyncGenerator[Batch, None]:
        """Yield everything committed after a cursor, in order within each session, without end.

        `types`, `tenant` and `partitions` select events; the others are not read. A batch holds at most
        `batch` envelopes and about 4 MiB; one without envelopes says that there are no more now. Its cursor
        is past the events that were left out. With `prefetch` the next batch is read while the caller works
        on this one. An outage of the bus or of the database is no error: reads are tried again, and
        `on_outage` is called with the error of each that failed; the next batch says that it is over.
        """
        chosen = _chosen(partitions)
        reader = PartitionReader(self._database, cursor, chosen, _filter(types, tenant), batch)
        notifications = self._notifications or Notifications(self._bus)
        return follow_partitions(reader, notifications, chosen, prefetch=prefetch, on_outage=on_outage)

    async def read(
        self,
        cursor: Cursor,
        until: Cursor | None = None,
        *,
        types: Collection[str] | None = None,
        tenant: str | None = None,
        partitions: Collection[int] | None = None,
        batch: int = BATCH,
        prefetch: bool = False,
    ) -> AsyncGenerator[Batch, None]:
        """Yield what was committed after a cursor, up to another one or to the head at the call.

        As `follow`, but a batch without envelopes says only that a part of the log had none of those that are
        wanted; the cursor of the last batch is at `until`, or at the head if that comes first.
        Raises DatabaseUnavailable; the cursor of the last batch resumes.
        """
        chosen = _chosen(partitions)
        end = await self.head(chosen) if until is None else until
        reader = PartitionReader(self._database, cursor, chosen, _filter(types, tenant), batch)
        async with aclosing(read_to(reader, end, prefetch=prefetch)) as batches:
            async for found in batches:
                yield found

    async def head(self, partitions: Collection[int] | None = None) -> Cursor:
        """Return the cursor after all that is committed. Raises DatabaseUnavailable."""
        return Cursor(await heads(self._database, _chosen(partitions)))

    async def at(self, time: datetime) -> Cursor:
        """Return the cursor before the first event committed at or after a time, in each partition.

        Raises DatabaseUnavailable.
        """
        return Cursor(await positions_before(self._database, time))

    async def check(self, cursor: Cursor) -> None:
        """Check that the log reaches to the cursor. Raises InvalidCursor, DatabaseUnavailable."""
        newest = await heads(self._database, ALL_PARTITIONS)
        for partition, position in sorted(cursor.positions.items()):
            if position > newest[partition]:
                raise InvalidCursor(
                    f"the cursor is at position {position} of partition {partition}, and the log ends at "
                    f"{newest[partition]}: the log was restored from an older backup, or the cursor is not "
                    "of this log. Start without it"
                )


def _chosen(partitions: Collection[int] | None) -> Collection[int]:
    if partitions is None:
        return ALL_PARTITIONS
    if unknown := sorted(set(partitions) - ALL_PARTITIONS):
        raise ValueError(f"there are no partitions {unknown}: they are numbered 0 to {PARTITIONS - 1}")
    if not partitions:
        raise ValueError("choose at least one partition")
    return frozenset(partitions)


def _filter(types: Collection[str] | None, tenant: str | None) -> Filter:
    return Filter(None if types is None else tuple(sorted(types)), tenant)
