"""Follow the log: one session, or all partitions. Announcements save queries; the log is authoritative."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.log.notify import (
    ALL_PARTITIONS,
    PartitionNotifier,
    envelopes_in,
    session_announcements,
)
from antiphon.chassis.log.read import read_partitions, read_session, sequence_of
from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

log = get_logger(__name__)

PAGE = 500
SESSION_POLL_SECONDS = 5.0  # without announcements, the log is read this often
PARTITIONS_POLL_SECONDS = 1.0


async def follow_session(
    database: Database, bus: Bus, tenant: str, session_id: str, after: int
) -> AsyncGenerator[Envelope, None]:
    """Yield a session's events (see Log.follow_session)."""
    sequence = after
    # The subscription starts before the history is read, so that no event falls between the two.
    announcements = session_announcements(bus, tenant, session_id, SESSION_POLL_SECONDS)
    async with aclosing(announcements):
        async for announcement in announcements:
            announced = envelopes_in(announcement)
            if _continues(announced, sequence):
                for envelope in announced:
                    if sequence_of(envelope) > sequence:
                        yield envelope
                        sequence = sequence_of(envelope)
                continue
            async with aclosing(_history(database, tenant, session_id, sequence)) as history:
                async for envelope in history:
                    yield envelope
                    sequence = sequence_of(envelope)


async def _history(
    database: Database, tenant: str, session_id: str, after: int
) -> AsyncGenerator[Envelope, None]:
    retry = retrying(DatabaseUnavailable, on_retry=_log_first_failure)
    while True:
        page = await retry(read_session, database, tenant, session_id, after, PAGE)
        for envelope in page.envelopes:
            yield envelope
            after = sequence_of(envelope)
        if not page.more:
            return


def _continues(announced: Sequence[Envelope], sequence: int) -> bool:
    """Return whether the envelopes follow a sequence without a gap; they may overlap it."""
    expected = sequence + 1
    for envelope in announced:
        number = sequence_of(envelope)
        if number == 0 or number > expected:
            return False
        expected = max(expected, number + 1)
    return bool(announced)


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
