"""How many messages wait to be committed, as a metric: the broker knows it while Postgres is away too."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable

import structlog

from antiphon.chassis.bus import Bus, BusError
from antiphon.contracts.streams import ingest_consumer
from antiphon.persistence import metrics

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0
LOOK_SECONDS = 0.5  # between two looks which partitions are held


async def watch_backlog(
    bus: Bus,
    held: Callable[[], Collection[int]],
    connected: Callable[[], bool],
    *,
    interval_seconds: float = INTERVAL_SECONDS,
) -> None:
    """Ask again and again, until cancelled, for the partitions that this replica holds.

    While it is not `connected` to Postgres nobody holds any: then those that it held before count.
    """
    reported: set[int] = set()
    asked_at = -math.inf
    while True:
        now, last = time.monotonic(), reported
        if connected():
            reported = set(held())
            for partition in last - reported:
                metrics.backlog.remove(str(partition))  # another replica has it
        if reported - last or now - asked_at >= interval_seconds:
            asked_at = now
            await _ask(bus, sorted(reported))
        await asyncio.sleep(min(LOOK_SECONDS, interval_seconds))


async def _ask(bus: Bus, partitions: Iterable[int]) -> None:
    for partition in partitions:
        try:
            waiting = await bus.unacknowledged(ingest_consumer(partition))
        except BusError as error:
            log.debug("backlog.unknown", partition=partition, error=str(error))
            return  # the broker is away, as antiphon.bus.connected says
        if waiting is not None:
            metrics.backlog.set(waiting, str(partition))
