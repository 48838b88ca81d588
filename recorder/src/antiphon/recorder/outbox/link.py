"""The one connection of a process to the broker, made as soon as the broker can be reached."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from antiphon.chassis.bus import Bus, BusUnavailable

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


class BusLink:
    """Hand out the bus, waiting for the broker as long as it takes."""

    def __init__(self, connect: Callable[[], Awaitable[Bus]]) -> None:
        self._connect = connect
        self._connecting: asyncio.Task[Bus] | None = None

    async def bus(self) -> Bus:
        """Return the connected bus; whoever cannot wait sets a deadline around it."""
        if self._connecting is None or self._failed(self._connecting):
            self._connecting = asyncio.create_task(self._until_connected(), name="bus-link")
        return await asyncio.shield(self._connecting)

    @staticmethod
    def _failed(connecting: asyncio.Task[Bus]) -> bool:
        return connecting.done() and (connecting.cancelled() or connecting.exception() is not None)

    async def _until_connected(self) -> Bus:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._connect()
            except BusUnavailable as error:
                log.warning("bus.unreachable", error=str(error))
            await asyncio.sleep(jittered(pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def close(self) -> None:
        """Disconnect, or stop trying to connect."""
        connecting, self._connecting = self._connecting, None
        if connecting is None:
            return
        if not connecting.done():
            connecting.cancel()
        elif not self._failed(connecting):
            await connecting.result().close()


def jittered(seconds: float) -> float:
    """Spread a pause, so that many who wait do not come back together."""
    return seconds * random.uniform(0.5, 1.5)
