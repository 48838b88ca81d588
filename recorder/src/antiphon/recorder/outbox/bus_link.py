"""The one connection of a process to the broker, made as soon as the broker answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from antiphon.chassis.bus import Bus, BusError, BusUnavailable
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import InvalidAccess
from antiphon.chassis.retry import retrying

log = get_logger(__name__)


class BusLink:
    """A bus that connects on first use and retries until the broker answers, whatever the error is.

    The first failure is logged, with the fields of `about`: where to look, and where the events are until
    then. Without `connect` it never connects.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Bus]] | None, *, about: Mapping[str, str] | None = None
    ) -> None:
        self._connect = connect
        self._about = dict(about or {})
        self._connecting: asyncio.Task[Bus] | None = None
        self._failing = asyncio.Event()  # the last attempt to connect failed

    @property
    def enabled(self) -> bool:
        """Whether it can ever connect."""
        return self._connect is not None

    async def bus(self) -> Bus:
        """Return the connected bus; it waits without a deadline."""
        if self._connecting is None or self._failed(self._connecting):
            self._connecting = asyncio.create_task(self._connect_with_retry(), name="bus-link")
        return await asyncio.shield(self._connecting)

    async def reachable_bus(self) -> Bus:
        """Return the connected bus. Raises BusUnavailable once an attempt to connect has failed."""
        tasks = connecting, failing = (
            asyncio.create_task(self.bus(), name="bus-link: connect"),
            asyncio.create_task(self._failing.wait(), name="bus-link: fail"),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise BusUnavailable("the last attempt to connect failed")
            return connecting.result()
        finally:
            connecting.cancel()
            failing.cancel()

    @staticmethod
    def _failed(connecting: asyncio.Task[Bus]) -> bool:
        return connecting.done() and (connecting.cancelled() or connecting.exception() is not None)

    async def _connect_with_retry(self) -> Bus:
        if self._connect is None:
            await asyncio.Event().wait()  # until it is closed
        assert self._connect is not None
        failures = 0

        def on_retry(error: BaseException, attempt: int) -> None:
            nonlocal failures
            failures = attempt
            self._failing.set()
            self._log_failure(error, attempt)

        bus = await retrying(Exception, on_retry=on_retry)(self._connect)
        self._failing.clear()
        if failures:
            log.warning("bus.reached", extra={**self._about, "failed_attempts": failures})
        return bus

    def _log_failure(self, error: BaseException, attempt: int) -> None:
        # an unexpected error may quote the URL, with its password
        reason = str(error) if isinstance(error, (BusError, InvalidAccess)) else type(error).__name__
        level = logging.WARNING if attempt == 1 else logging.DEBUG
        log.log(level, "bus.unreachable", extra={**self._about, "error": reason, "attempt": attempt})

    async def close(self) -> None:
        """Disconnect, or stop trying to connect; raises nothing."""
        connecting, self._connecting = self._connecting, None
        if connecting is None:
            return
        if not connecting.done():
            connecting.cancel()
        elif not self._failed(connecting):
            try:
                await connecting.result().close()
            except Exception as error:  # noqa: BLE001 - nothing is left to publish
                log.warning("bus.close_failed", extra={"error": repr(error)})
