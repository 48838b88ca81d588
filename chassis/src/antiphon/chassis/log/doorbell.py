"""The doorbell of a follower of all partitions: which of them have news."""

import asyncio

from antiphon.chassis.bus import MISSED, Announcement, Bus, BusUnavailable
from antiphon.contracts.subjects import PARTITIONS, committed_filter

ALL = frozenset(range(PARTITIONS))
RETRY_SECONDS = 1.0


class Doorbell:
    """Remember which partitions were rung since they were last read."""

    def __init__(self) -> None:
        self._rung: set[int] = set()
        self._event = asyncio.Event()

    async def ring_with(self, bus: Bus) -> None:
        """Ring with every announcement, until cancelled; without the bus the safety look has to do."""
        while True:
            try:
                listening = await bus.subscribe(committed_filter())
            except BusUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._ring(ALL)  # what was committed before we listened
            try:
                async for heard in listening:
                    self._ring(_partitions(heard))
            finally:
                await listening.close()

    def take(self) -> set[int]:
        """Return what was rung, and forget it."""
        rung, self._rung = self._rung, set()
        self._event.clear()
        return rung

    async def wait(self, seconds: float) -> set[int]:
        """Wait for a ring and take it; without one, name every partition."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return set(ALL)
        return self.take()

    def _ring(self, partitions: frozenset[int]) -> None:
        self._rung |= partitions
        self._event.set()


def _partitions(heard: Announcement) -> frozenset[int]:
    token = heard[0].split(".", 2)[1:2]
    if heard is MISSED or not token or not token[0].isdigit():
        return ALL
    return frozenset({int(token[0])})
