"""Wait between tries, a little longer each time, but never beyond the order to stop."""

import asyncio
import random
from collections.abc import Awaitable
from typing import TypeVar

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0

T = TypeVar("T")


class Stopped(Exception):
    """The process was told to stop while something was being waited for."""


async def or_stop(awaitable: Awaitable[T], stop: asyncio.Event) -> T:
    """Wait for a result, unless the stop event comes first.

    Raises Stopped.
    """
    wanted = asyncio.ensure_future(awaitable)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({wanted, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise Stopped
    finally:
        wanted.cancel()
        stopping.cancel()
        await asyncio.gather(wanted, stopping, return_exceptions=True)


class Patience:
    """Pause between tries that fail, with jitter, until stopped."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._seconds = FIRST_SECONDS

    async def pause(self) -> None:
        """Pause, longer than the last time.

        Raises Stopped.
        """
        seconds = self._seconds * random.uniform(0.5, 1.0)
        self._seconds = min(self._seconds * 2, LONGEST_SECONDS)
        await or_stop(asyncio.sleep(seconds), self._stop)

    def reset(self) -> None:
        """Start again from the shortest pause."""
        self._seconds = FIRST_SECONDS
