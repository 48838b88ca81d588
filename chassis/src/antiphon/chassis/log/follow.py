"""Follow all partitions: the log is what is read, an announcement only rings which partition to read."""

import asyncio

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log.doorbell import ALL, Doorbell
from antiphon.chassis.log.patience import Patience
from antiphon.chassis.log.reading import Batches, read_partitions
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of

SAFETY_LOOK_SECONDS = 1.0


async def follow(database: Database, bus: Bus, cursor: Cursor, batch: int) -> Batches:
    """Iterate over everything committed after a cursor (see Log.follow)."""
    doorbell = Doorbell()
    ringing = asyncio.create_task(doorbell.ring_with(bus), name="follow: doorbell")
    patience = Patience("follow")
    rung: set[int] = set(ALL)
    try:
        while True:
            try:
                share = max(1, batch // len(rung))
                found = await read_partitions(database, {p: cursor.after(p) for p in rung}, share)
            except DatabaseUnavailable as error:
                await patience.wait(error)
                continue
            patience.reset()
            if found:
                cursor = cursor.advanced(found)
                yield found
            rung = _unfinished(found, share) | doorbell.take()
            if not rung:
                rung = await doorbell.wait(SAFETY_LOOK_SECONDS)
    finally:
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)


def _unfinished(found: list[Envelope], share: int) -> set[int]:
    """Return the partitions that gave all they were asked for, and so may hold more."""
    counts: dict[int, int] = {}
    for envelope in found:
        partition = partition_of(envelope.subject)
        counts[partition] = counts.get(partition, 0) + 1
    return {partition for partition, count in counts.items() if count >= share}
