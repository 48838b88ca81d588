"""Wait for something, but not past the order to shut down."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class ShuttingDown(Exception):
    """The process was told to stop while it waited."""


async def wait_or_stop(awaitable: Awaitable[T], stop: asyncio.Event) -> T:
    """Return the result of `awaitable`; when the stop event comes first, cancel it.

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
