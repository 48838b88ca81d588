"""What a listener has heard and not yet taken, in a queue that admits what it lost."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from antiphon.chassis.bus.port import MISSED, Announcement, Subscription

QUEUE_LIMIT = 4096  # messages that a slow listener may leave lying
NEVER = float("inf")


class QueueSubscription(Subscription):
    """Hold what was heard until it is taken; too much of it becomes a gap."""

    def __init__(self, on_close: Callable[["QueueSubscription"], None], limit: int = QUEUE_LIMIT) -> None:
        self._heard: deque[Announcement] = deque()
        self._limit = limit
        self._on_close = on_close
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = NEVER

    def put(self, subject: str, payload: bytes) -> None:
        """Add what was said; on overflow forget everything that lies here and remember a gap."""
        if len(self._heard) >= self._limit:
            self._heard.clear()
            self.gap()
        self._heard.append((subject, payload))
        self._wake()

    def gap(self) -> None:
        """Note that something may have been missed."""
        self.dropped = True
        if not self._heard or self._heard[-1] is not MISSED:
            self._heard.append(MISSED)
        self._wake()

    async def next(self, timeout_seconds: float | None = None) -> Announcement | None:
        """Wait for what is said next (see Subscription.next)."""
        if not self._heard and not self._closed:
            await self._wait(timeout_seconds)
        return self._heard.popleft() if self._heard else None

    async def __aiter__(self) -> AsyncIterator[Announcement]:
        while (heard := await self.next()) is not None:
            yield heard

    async def close(self) -> None:
        """Stop listening (see Subscription.close)."""
        if not self._closed:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._wake()
            self._on_close(self)

    async def _wait(self, timeout_seconds: float | None) -> None:
        # One timer serves many waits: a thousand listeners hear often and are seldom silent for long.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._deadline = NEVER if timeout_seconds is None else loop.time() + timeout_seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._deadline != NEVER:
            self._timer = loop.call_at(self._deadline, self._on_timer)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._deadline == NEVER:
            return
        loop = self._waiter.get_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._on_timer)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
