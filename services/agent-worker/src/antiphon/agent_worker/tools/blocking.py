"""Functions that block, each in a thread of its own; their number is bounded.

The threads are daemons, and not those of an executor: one that never returns would keep its process alive.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from livekit.agents.llm import ToolError

THREADS = 8  # of a process at the same time

_places = threading.BoundedSemaphore(THREADS)


async def in_thread(function: Callable[[], Any], *, name: str) -> Any:
    """Return the result of a function that blocks. When this is cancelled, the thread runs on.

    Raises what it raises, and ToolError when as many functions as allowed are running.
    """
    if not _places.acquire(blocking=False):
        raise ToolError("too many tools are busy; try again in a moment")
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=_run, args=(lambda: context.run(function), future), name=f"tool {name}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:
        _places.release()
        raise ToolError("too many tools are busy; try again in a moment") from error
    return await asyncio.wrap_future(future)


def _run(function: Callable[[], Any], future: "Future[Any]") -> None:
    try:
        future.set_result(function())
    except StopIteration as error:  # a future of asyncio cannot have it
        future.set_exception(RuntimeError(repr(error)))
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        future.set_exception(error)
    finally:
        _places.release()
