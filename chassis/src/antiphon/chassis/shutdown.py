"""Wait for a result, but no longer than the process runs."""

import asyncio
from collections.abc import Awaitable
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
