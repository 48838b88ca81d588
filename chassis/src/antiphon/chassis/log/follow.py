"""Follow the log: one session, or all partitions. Announcements save queries; the log is authoritative."""

from collections.abc import AsyncGenerator, Collection
from typing import NamedTuple

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.log.notify import Notifications
from antiphon.chassis.log.partitions import Filter, PartitionsPage, read_partitions
from antiphon.chassis.log.session_follower import SessionFollower
from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

log = get_logger(__name__)

PARTITIONS_POLL_SECONDS = 1.0
WAIT_SECONDS = 60.0  # for a session's next event, and then again


class Batch(NamedTuple):
    """Committed envelopes, in order within each session, and the cursor after all that was looked at."""

    envelopes: list[Envelope]
    cursor: Cursor


async def follow_session(
    database: Database, bus: Bus, tenant: str, session_id: str, after: int
) -> AsyncGenerator[Envelope, None]:
    """Yield a session's events (see Log.follow_session)."""
    follower = SessionFollower(database, bus, tenant, session_id, after)
    try:
        while True:
            for envelope in await follower.next(WAIT_SECONDS):
                yield envelope
    finally:
        await follower.close()


class PartitionReader:
    """A cursor and the pages after it: each partition gets its share of a batch."""

    def __init__(
        self, database: Database, cursor: Cursor, partitions: Collection[int], filter_: Filter, batch: int
    ) -> None:
        self.cursor = cursor
        self.pending = sorted(partitions)  # those that may hold more
        self._database = database
        self._filter = filter_
        self._batch = batch

    def add(self, partitions: Collection[int]) -> None:
        """Read these partitions too."""
        self.pending += [partition for partition in partitions if partition not in self.pending]

    async def next(self, until: Cursor | None = None) -> Batch:
        """Return the next page, of the pending partitions. Raises DatabaseUnavailable."""
        # A batch smaller than the number of partitions takes them in turns.
        turn = self.pending[: max(1, self._batch)]
        after = {partition: self.cursor.after(partition) for partition in turn}
        limit = max(1, self._batch // len(turn))
        page = await read_partitions(self._database, after, limit, until=until, filter_=self._filter)
        self._advance(page, turn)
        return Batch(page.envelopes, self.cursor)

    def _advance(self, page: PartitionsPage, turn: list[int]) -> None:
        self.cursor = self.cursor.moved(page.reached.items())
        again = [partition for partition in turn if partition in page.unfinished]
        self.pending = self.pending[len(turn) :] + again


async def follow_partitions(
    reader: PartitionReader, notifications: Notifications, partitions: Collection[int], tenant: str | None
) -> AsyncGenerator[Batch, None]:
    """Yield everything committed after a cursor (see Log.follow)."""
    retry = retrying(DatabaseUnavailable, on_retry=_log_first_failure)
    async with notifications.listen(partitions, tenant) as notified:
        while True:
            batch = await retry(reader.next)
            if batch.envelopes or not reader.pending:
                yield batch
            reader.add(notified.take())
            if not reader.pending:
                reader.add(await notified.wait(PARTITIONS_POLL_SECONDS))


async def read_to(reader: PartitionReader, until: Cursor) -> AsyncGenerator[Batch, None]:
    """Yield everything up to a cursor (see Log.read)."""
    reader.pending = [p for p in reader.pending if reader.cursor.after(p) < until.after(p)]
    while reader.pending:
        yield await reader.next(until)


def _log_first_failure(error: BaseException, attempt: int) -> None:
    if attempt == 1:
        log.warning("follow.database_unavailable", extra={"error": str(error)})
