"""Follow one session: its history in small steps, then its announced commits; one caller waits at a time."""

import asyncio
from collections.abc import Sequence

from antiphon.chassis.background import end_task
from antiphon.chassis.bus import Bus, BusUnavailable, Subscription
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.log.notify import envelopes_in
from antiphon.chassis.log.read import read_step, sequence_of
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import committed_subject

log = get_logger(__name__)

# A reader that takes nothing holds one step of history and one queue of announcements.
STEP = 500  # events
STEP_BYTES = 128 << 10
QUEUE_BYTES = (
    256 << 10
)  # of announcements, all but the newest; those of one session are shared by its readers
SESSION_POLL_SECONDS = 5.0  # without announcements, the log is read this often
OUTAGE_POLL_SECONDS = 1.0  # while the bus or the database is unavailable


class SessionFollower:
    """The events of a session after a sequence, without gaps or end; `sequence` is that of the last."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        tenant: str,
        session_id: str,
        after: int,
        *,
        announced: bool = True,
    ) -> None:
        """Follow from a sequence on; without `announced` what is committed later need not be noticed."""
        self.sequence = after
        self._database = database
        self._bus = bus
        self._tenant = tenant
        self._session_id = session_id
        self._subscribing: asyncio.Task[Subscription] | None = None
        self._subscription: Subscription | None = None
        self._listens = announced
        self._woken = False
        self._behind = True  # the log may hold more than was read
        self._poll_at = 0.0
        self._unavailable = False

    @property
    def behind(self) -> bool:
        """Whether `next` has events already, as far as is known."""
        return self._behind or (self._subscription is not None and not self._subscription.empty)

    async def next(self, timeout_seconds: float) -> Sequence[Envelope]:
        """Return the next events, in order; none after `timeout_seconds` without one, or after `wake`.

        A tuple is what was announced, one object for all followers of the session. An outage of the bus or
        of the database is no error: there are no events until it is over.
        """
        if self._woken:
            self._woken = False
            return ()
        if self._subscription is None and self._listens:
            # Before the history is read, so that no event falls between the two.
            await self._subscribe(timeout_seconds)
        if self._behind:
            return await self._read()
        if self._subscription is None:
            await asyncio.sleep(0)
            return ()
        return await self._announced(self._subscription, timeout_seconds)

    def wake(self) -> None:
        """End the wait of `next`, or of the next one."""
        self._woken = True
        if self._subscription is not None:
            self._subscription.wake()

    async def close(self) -> None:
        """Unsubscribe."""
        subscribing, self._subscribing = self._subscribing, None
        if subscribing is not None:
            await end_task(subscribing)
            if not subscribing.cancelled() and subscribing.exception() is None:
                await subscribing.result().close()
        if self._subscription is not None:
            await self._subscription.close()

    async def _subscribe(self, timeout_seconds: float) -> None:
        if self._subscribing is None:
            subject = committed_subject(self._tenant, self._session_id)
            self._subscribing = asyncio.create_task(
                self._bus.subscribe(subject, max_bytes=QUEUE_BYTES), name="follow: subscribe"
            )
        wait_seconds = min(timeout_seconds, OUTAGE_POLL_SECONDS)
        await asyncio.wait((self._subscribing,), timeout=wait_seconds)
        if self._subscribing.done():
            subscribing, self._subscribing = self._subscribing, None
            try:
                self._subscription = subscribing.result()
            except BusUnavailable:
                await asyncio.sleep(wait_seconds)
            else:
                self._behind = True
        self._behind |= asyncio.get_running_loop().time() >= self._poll_at

    async def _announced(self, subscription: Subscription, timeout_seconds: float) -> Sequence[Envelope]:
        now = asyncio.get_running_loop().time
        announcement = await subscription.next(max(0.0, min(timeout_seconds, self._poll_at - now())))
        if announcement is None:
            self._woken = False
            self._behind = now() >= self._poll_at
            return ()
        announced = envelopes_in(announcement)
        if not _continues(announced, self.sequence):
            self._behind = True
            return ()
        self._poll_at = now() + SESSION_POLL_SECONDS
        if sequence_of(announced[0]) <= self.sequence:  # overlaps what was read
            announced = tuple(envelope for envelope in announced if sequence_of(envelope) > self.sequence)
        if announced:
            self.sequence = sequence_of(announced[-1])
        return announced

    async def _read(self) -> Sequence[Envelope]:
        try:
            page = await read_step(
                self._database, self._tenant, self._session_id, self.sequence, STEP, STEP_BYTES
            )
        except DatabaseUnavailable as error:
            if not self._unavailable:
                log.warning("follow.database_unavailable", extra={"error": str(error)})
            self._unavailable = True
            await asyncio.sleep(OUTAGE_POLL_SECONDS)
            return ()
        self._unavailable = False
        if page.envelopes:
            self.sequence = sequence_of(page.envelopes[-1])
        self._behind = page.more
        poll_seconds = OUTAGE_POLL_SECONDS if self._subscription is None else SESSION_POLL_SECONDS
        self._poll_at = asyncio.get_running_loop().time() + poll_seconds
        return page.envelopes


def _continues(announced: Sequence[Envelope], sequence: int) -> bool:
    """Return whether the envelopes follow a sequence without a gap; they may overlap it."""
    expected = sequence + 1
    for envelope in announced:
        number = sequence_of(envelope)
        if number == 0 or number > expected:
            return False
        expected = max(expected, number + 1)
    return bool(announced)
