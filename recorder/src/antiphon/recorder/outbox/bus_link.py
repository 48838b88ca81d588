"""The one connection of a process to the broker, made as soon as the broker answers."""

import asyncio
from collections.abc import Awaitable, Callable

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying

log = get_logger(__name__)


class BusLink:
    """A bus that connects on first use and retries until the broker answers."""

    def __init__(self, connect: Callable[[], Awaitable[Bus]]) -> None:
        self._connect = connect
        self._connecting: asyncio.Task[Bus] | None = None

    async def bus(self) -> Bus:
        """Return the connected bus; it waits without a deadline."""
        if self._connecting is None or self._failed(self._connecting):
            self._connecting = asyncio.create_task(self._connect_with_retry(), name="bus-link")
        return await asyncio.shield(self._connecting)

    @staticmethod
    def _failed(connecting: asyncio.Task[Bus]) -> bool:
        return connecting.done() and (connecting.cancelled() or connecting.exception() is not None)

    async def _connect_with_retry(self) -> Bus:
        return await retrying(BusUnavailable, on_retry=_log_retry)(self._connect)

    async def close(self) -> None:
        """Disconnect, or stop trying to connect."""
        connecting, self._connecting = self._connecting, None
        if connecting is None:
            return
        if not connecting.done():
            connecting.cancel()
        elif not self._failed(connecting):
            await connecting.result().close()


def _log_retry(error: BaseException, attempt: int) -> None:
    log.warning("bus.unreachable", extra={"error": str(error), "attempt": attempt})
