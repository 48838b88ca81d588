"""Follow all partitions: the log is what is read, an announcement only rings which partition to read."""

import asyncio

from chassis.bus import GAP, Bus, Listening
from chassis.database import Database, DatabaseUnavailable
from chassis.log.patience import Patience
from chassis.log.reading import Batches, read_partitions
from contracts.cursor import Cursor
from contracts.envelope import Envelope
from contracts.subjects import PARTITIONS, committed_filter, partition_of

SAFETY_LOOK_SECONDS = 1.0

ALL = frozenset(range(PARTITIONS))


async def follow(database: Database, bus: Bus, cursor: Cursor, batch: int) -> Batches:
    """Iterate over everything committed after a cursor (see Log.follow)."""
    listening = await bus.listen(committed_filter())
    bell = _Bell()
    ringing = asyncio.create_task(bell.ring_with(listening), name="follow: doorbell")
    patience = Patience("follow")
    rung = set(ALL)
    try:
        while True:
            try:
                found = await read_partitions(database, {p: cursor.after(p) for p in rung}, batch)
            except DatabaseUnavailable as error:
                await patience.wait(error)
                continue
            patience.reset()
            if found:
                cursor = cursor.advanced(found)
                yield found
            rung = _unfinished(found, batch) | bell.take()
            if not rung:
                rung = await bell.wait(SAFETY_LOOK_SECONDS)
    finally:
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)
        await listening.close()


def _unfinished(found: list[Envelope], batch: int) -> set[int]:
    """Return the partitions that gave a full batch, and so may hold more."""
    counts: dict[int, int] = {}
    for envelope in found:
        partition = partition_of(envelope.subject)
        counts[partition] = counts.get(partition, 0) + 1
    return {partition for partition, count in counts.items() if count >= batch}


class _Bell:
    """Remember which partitions were rung since they were last read."""

    def __init__(self) -> None:
        self._rung: set[int] = set()
        self._event = asyncio.Event()

    async def ring_with(self, listening: Listening) -> None:
        async for heard in listening:
            token = heard[0].split(".", 2)[1:2]
            if heard is GAP or not token or not token[0].isdigit():
                self._rung |= ALL
            else:
                self._rung.add(int(token[0]))
            self._event.set()

    def take(self) -> set[int]:
        rung, self._rung = self._rung, set()
        self._event.clear()
        return rung

    async def wait(self, seconds: float) -> set[int]:
        """Wait for a ring; without one, look everywhere."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return set(ALL)
        return self.take()
