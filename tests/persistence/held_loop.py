"""Run the loop of a view that holds all partitions, in the test's own event loop."""

import asyncio

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.errors import Fenced
from antiphon.persistence.projection.loop import ProjectionLoop


def hold_all(loop: ProjectionLoop, stop: asyncio.Event) -> list[asyncio.Future[None]]:
    """Run a loop until stopped; it holds each partition, again after each time that it is fenced."""
    held = [asyncio.ensure_future(_hold(loop, number, stop)) for number in range(PARTITIONS)]
    return [asyncio.ensure_future(loop.run(stop)), *held]


async def _hold(loop: ProjectionLoop, partition: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await loop.hold(partition, stop)
        except Fenced:
            await asyncio.sleep(0.05)
