"""Follow the log: one session, or all partitions. Announcements save queries; the log is authoritative."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.log.batches import Batch, PartitionReader, pages
from antiphon.chassis.log.notify import Notifications
from antiphon.chassis.log.session_follower import SessionFollower
from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

log = get_logger(__name__)

PARTITIONS_POLL_SECONDS = 1.0
WAIT_SECONDS = 60.0  # for a session's next event, and then again

OnOutage = Callable[[BaseException], object]  # called with the error of each read that failed


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


async def follow_partitions(
    reader: PartitionReader,
    notifications: Notifications,
    partitions: Collection[int],
    *,
    prefetch: bool,
    on_outage: OnOutage | None = None,
) -> AsyncGenerator[Batch, None]:
    """Yield everything committed after a cursor (see Log.follow)."""

    def failed(error: BaseException, attempt: int) -> None:
        _log_first_failure(error, attempt)
        if on_outage is not None:
            on_outage(error)

    retry = retrying(DatabaseUnavailable, on_retry=failed)
    now = asyncio.get_running_loop().time
    poll_at = now() + PARTITIONS_POLL_SECONDS
    types, tenant = reader.filter
    async with (
        notifications.listen(partitions, types=types, tenant=tenant) as notified,
        pages(lambda: retry(reader.read)) as reading,
    ):
        while True:
            batch = await reading.next()
            caught_up = not reader.pending
            if prefetch and not caught_up:
                reading.begin()
            if batch.envelopes or caught_up:
                yield batch
            if caught_up:
                await notified.wait(poll_at - now())
            reader.add(notified.take())
            nothing = caught_up and not reader.pending
            if nothing or now() >= poll_at:  # however busy some are: an announcement of another may be lost
                reader.add(partitions)
                poll_at = now() + PARTITIONS_POLL_SECONDS


async def read_to(reader: PartitionReader, until: Cursor, *, prefetch: bool) -> AsyncGenerator[Batch, None]:
    """Yield everything up to a cursor (see Log.read)."""
    reader.pending = [p for p in reader.pending if reader.cursor.after(p) < until.after(p)]
    async with pages(lambda: reader.read(until)) as reading:
        while reader.pending or reading.begun:
            batch = await reading.next()
            if prefetch and reader.pending:
                reading.begin()
            yield batch


def _log_first_failure(error: BaseException, attempt: int) -> None:
    if attempt == 1:
        log.warning("follow.database_unavailable", extra={"error": str(error)})
