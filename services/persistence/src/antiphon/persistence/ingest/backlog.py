"""How many messages wait to be committed, as a metric: the broker knows it while Postgres is away too."""

import asyncio
from collections.abc import Callable, Collection

import structlog

from antiphon.chassis.bus import Bus, BusError
from antiphon.contracts.streams import ingest_consumer
from antiphon.persistence import metrics

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0


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
    while True:
        if connected():
            for partition in reported.difference(held()):
                metrics.backlog.remove(str(partition))  # another replica has it
            reported = set(held())
        for partition in sorted(reported):
            try:
                waiting = await bus.unacknowledged(ingest_consumer(partition))
            except BusError as error:
                log.debug("backlog.unknown", partition=partition, error=str(error))
                break  # the broker is away, as antiphon.bus.connected says
            if waiting is not None:
                metrics.backlog.set(waiting, str(partition))
        await asyncio.sleep(interval_seconds)
