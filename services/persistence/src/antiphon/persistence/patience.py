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


class Interruptible:
    """Wait for one thing after another, each ended by any of the events; one watcher serves all."""

    def __init__(self, *events: asyncio.Event) -> None:
        self._events = events
        self._waiting: asyncio.Task[object] | None = None
        self._interrupted = False

    async def __aenter__(self) -> "Interruptible":
        self._watcher = asyncio.create_task(self._watch(), name="stop")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Wait for a result; what is done after it is not interrupted.

        Raises Stopped.
        """
        if any(event.is_set() for event in self._events):
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise Stopped
        self._waiting = asyncio.current_task()
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._interrupted and self._waiting is not None and self._waiting.uncancel() == 0:
                raise Stopped from None
            raise
        finally:
            self._waiting = None

    async def _watch(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in self._events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._waiting is not None:
            self._interrupted = True
            self._waiting.cancel()


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
