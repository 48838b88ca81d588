"""Announcements of commits: which session or partition has new events, and when to read the log instead."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

import msgspec

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import MISSED, Announcement, Bus, BusUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, committed_filter

log = get_logger(__name__)

ALL_PARTITIONS = frozenset(range(PARTITIONS))
DECODED_BYTES = 4 << 20
NOT_ANNOUNCED = len(b"[]")  # what is announced of events that are too large, and of those that were missed

_BY_TOKEN = {str(number): frozenset({number}) for number in ALL_PARTITIONS}

_decoder = msgspec.json.Decoder(tuple[Envelope, ...])


def envelopes_in(announcement: Announcement) -> tuple[Envelope, ...]:
    """Return the announced envelopes; none when announcements were missed or this one is malformed."""
    if announcement is MISSED:
        return ()
    subject, payload = announcement
    try:
        return _decoded.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("announcement.malformed", extra={"subject": subject, "error": str(error)})
        return ()


class DecodedAnnouncements:
    """The newest announcements, decoded: many followers of one session receive the same payload."""

    def __init__(self, max_bytes: int = DECODED_BYTES) -> None:
        self.bytes = 0  # of the payloads; the envelopes are slices of about the same size
        self._max_bytes = max_bytes
        self._decoded: dict[bytes, tuple[Envelope, ...]] = {}

    def decode(self, payload: bytes) -> tuple[Envelope, ...]:
        """Decode a payload.

        Raises msgspec.DecodeError.
        """
        envelopes = self._decoded.get(payload)
        if envelopes is None:
            envelopes = self._decoded[payload] = _decoder.decode(payload)
            self.bytes += len(payload)
            while self.bytes > self._max_bytes:
                oldest = next(iter(self._decoded))
                del self._decoded[oldest]
                self.bytes -= len(oldest)
        return envelopes


_decoded = DecodedAnnouncements()


class Notified:
    """The partitions with new events since they were last taken, for one follower and the types it wants."""

    def __init__(self, partitions: Collection[int], types: Collection[str] | None) -> None:
        self._partitions = frozenset(partitions)
        self._wanted = None if types is None else tuple(f'"{name}"'.encode() for name in types)
        self._notified: set[int] = set()
        self._event = asyncio.Event()

    def put(self, partitions: frozenset[int], payload: bytes) -> None:
        """Note partitions with new events, unless none of the announced ones, if any, is wanted."""
        mine = partitions & self._partitions
        if mine and self._wants(payload):
            self._notified |= mine
            self._event.set()

    def _wants(self, payload: bytes) -> bool:
        # To look for the name is enough: a read that finds nothing harms nobody, and a type that is written
        # with escapes is found by the next read of all partitions.
        return (
            self._wanted is None
            or len(payload) <= NOT_ANNOUNCED
            or any(map(payload.__contains__, self._wanted))
        )

    def take(self) -> set[int]:
        """Return the partitions with new events and forget them."""
        notified, self._notified = self._notified, set()
        self._event.clear()
        return notified

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for new events, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()


class SharedAnnouncements:
    """A subscription, the followers that share it, and the task that reads it."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self.followers: set[Notified] = set()
        self._bus = bus
        self._subject = subject
        self.task = BackgroundTask(self.run, name="follow: announcements")

    async def run(self) -> None:
        """Notify the followers until cancelled."""
        subscription = await retrying(BusUnavailable)(self._bus.subscribe, self._subject)
        try:
            self._put(MISSED)  # events committed before we subscribed
            async for announcement in subscription:
                self._put(announcement)
        finally:
            await subscription.close()

    def _put(self, announcement: Announcement) -> None:
        partitions = _partitions(announcement)
        for follower in self.followers:
            follower.put(partitions, announcement[1])


class Notifications:
    """The announcements of a process: one subscription for all its followers, or for those of a tenant.

    It lasts from the first follower to the last. While the bus is unavailable, followers wait in vain and
    read the log after each timeout.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._shared: dict[str | None, SharedAnnouncements] = {}

    @asynccontextmanager
    async def listen(
        self, partitions: Collection[int], *, types: Collection[str] | None, tenant: str | None
    ) -> AsyncIterator[Notified]:
        """Notify a follower while the block runs."""
        shared = self._shared.get(tenant)
        if shared is None:
            shared = self._shared[tenant] = SharedAnnouncements(self._bus, committed_filter(tenant=tenant))
        follower = Notified(partitions, types)
        shared.followers.add(follower)
        try:
            yield follower
        finally:
            shared.followers.discard(follower)
            if not shared.followers:
                del self._shared[tenant]
                await shared.task.close()


def _partitions(announcement: Announcement) -> frozenset[int]:
    if announcement is MISSED:
        return ALL_PARTITIONS
    token = announcement[0].split(".", 2)[1:2]
    return _BY_TOKEN.get(token[0], ALL_PARTITIONS) if token else ALL_PARTITIONS
