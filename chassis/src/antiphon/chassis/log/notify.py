"""Announcements of commits: which session or partition has new events, and when to read the log instead."""

import asyncio

import msgspec

from antiphon.chassis.bus import MISSED, Announcement, Bus, BusUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, committed_filter

log = get_logger(__name__)

ALL_PARTITIONS = frozenset(range(PARTITIONS))
DECODED_BYTES = 4 << 20

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


class PartitionNotifier:
    """The partitions with new events since they were last taken."""

    def __init__(self) -> None:
        self._notified: set[int] = set()
        self._event = asyncio.Event()

    async def run(self, bus: Bus) -> None:
        """Collect announcements until cancelled; while the bus is unavailable, `wait` times out instead."""
        subscription = await retrying(BusUnavailable)(bus.subscribe, committed_filter())
        try:
            self._notify(ALL_PARTITIONS)  # events committed before we subscribed
            async for announcement in subscription:
                self._notify(_partitions(announcement))
        finally:
            await subscription.close()

    def take(self) -> set[int]:
        """Return the partitions with new events and forget them."""
        notified, self._notified = self._notified, set()
        self._event.clear()
        return notified

    async def wait(self, timeout_seconds: float) -> set[int]:
        """Wait for new events and take their partitions; after a timeout return every partition."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return set(ALL_PARTITIONS)
        return self.take()

    def _notify(self, partitions: frozenset[int]) -> None:
        self._notified |= partitions
        self._event.set()


def _partitions(announcement: Announcement) -> frozenset[int]:
    if announcement is MISSED:
        return ALL_PARTITIONS
    token = announcement[0].split(".", 2)[1:2]
    return _BY_TOKEN.get(token[0], ALL_PARTITIONS) if token else ALL_PARTITIONS
