"""Waits that end when a stop event is set, and a stop that waits until others have noticed it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class ShuttingDown(Exception):
    """The stop event was set during a wait."""


async def wait_or_stop(awaitable: Awaitable[T], stop: asyncio.Event) -> T:
    """Return the result of `awaitable`; cancel it when the stop event is set first.

    Raises ShuttingDown.
    """
    result = asyncio.ensure_future(awaitable)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({result, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ShuttingDown
    finally:
        result.cancel()
        stopping.cancel()
        await asyncio.gather(result, stopping, return_exceptions=True)


@asynccontextmanager
async def delayed(stop: asyncio.Event, seconds: float) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set these seconds after the stop event; it is the stop event when they are 0.

    Between the two a server goes on, so that balancers can notice that it stops.
    """
    if not seconds:
        yield stop
        return
    closing = asyncio.Event()
    following = asyncio.create_task(_set_after(stop, seconds, closing), name="shutdown delay")
    try:
        yield closing
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _set_after(stop: asyncio.Event, seconds: float, closing: asyncio.Event) -> None:
    await stop.wait()
    await asyncio.sleep(seconds)
    closing.set()


class StopAwareWait:
    """A wait that one task repeats; it ends early when one of the events is set.

    Unlike `wait_or_stop`, it starts no task per wait, which matters in a busy loop. Each wait runs in an
    `asyncio.timeout` without a deadline, which a watcher of the events expires.
    """

    def __init__(self, *events: asyncio.Event) -> None:
        self._events = events
        self._timeout: asyncio.Timeout | None = None

    async def __aenter__(self) -> "StopAwareWait":
        self._watchers = [asyncio.create_task(self._watch(event)) for event in self._events]
        return self

    async def __aexit__(self, *_: object) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def __call__(self, function: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `await function()`; when an event is set first, cancel it.

        Raises ShuttingDown.
        """
        if any(event.is_set() for event in self._events):
            raise ShuttingDown
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._timeout = timeout
                return await function()
        except TimeoutError:
            if timeout.expired():
                raise ShuttingDown from None
            raise
        finally:
            self._timeout = None

    async def _watch(self, event: asyncio.Event) -> None:
        await event.wait()
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.reschedule(0)
