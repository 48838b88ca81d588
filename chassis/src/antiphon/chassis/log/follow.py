"""Follow the log: one session, or all partitions. Announcements save queries; the log is authoritative."""

from collections.abc import AsyncGenerator

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.log.notify import ALL_PARTITIONS, PartitionNotifier
from antiphon.chassis.log.read import read_partitions
from antiphon.chassis.log.session_follower import SessionFollower
from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

log = get_logger(__name__)

PARTITIONS_POLL_SECONDS = 1.0
WAIT_SECONDS = 60.0  # for a session's next event, and then again


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
    database: Database, bus: Bus, cursor: Cursor, batch: int
) -> AsyncGenerator[list[Envelope], None]:
    """Yield everything committed after a cursor (see Log.follow)."""
    notifier = PartitionNotifier()
    notifying = BackgroundTask(lambda: notifier.run(bus), name="follow: notifier")
    retry = retrying(DatabaseUnavailable, on_retry=_log_first_failure)
    partitions: set[int] = set(ALL_PARTITIONS)
    try:
        while True:
            limit = max(1, batch // len(partitions))
            after = {partition: cursor.after(partition) for partition in partitions}
            page = await retry(read_partitions, database, after, limit)
            cursor = cursor.advanced(page.envelopes)
            yield page.envelopes
            partitions = page.unfinished | notifier.take()
            if not partitions:
                partitions = await notifier.wait(PARTITIONS_POLL_SECONDS)
    finally:
        await notifying.close()


def _log_first_failure(error: BaseException, attempt: int) -> None:
    if attempt == 1:
        log.warning("follow.database_unavailable", extra={"error": str(error)})
