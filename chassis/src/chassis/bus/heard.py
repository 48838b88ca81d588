"""What a listener has heard and not yet taken, in a queue that admits what it lost."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from chassis.bus.port import GAP, Heard, Listening

QUEUE_LIMIT = 4096  # messages that a slow listener may leave lying


class QueueListening(Listening):
    """Hold what was heard until it is taken; too much of it becomes a gap."""

    def __init__(self, on_close: Callable[["QueueListening"], None], limit: int = QUEUE_LIMIT) -> None:
        self._heard: deque[Heard] = deque()
        self._limit = limit
        self._event = asyncio.Event()
        self._on_close = on_close
        self._closed = False

    def put(self, subject: str, payload: bytes) -> None:
        """Add what was said; on overflow forget everything that lies here and remember a gap."""
        if len(self._heard) >= self._limit:
            self._heard.clear()
            self.gap()
        self._heard.append((subject, payload))
        self._event.set()

    def gap(self) -> None:
        """Note that something may have been missed."""
        self.dropped = True
        if not self._heard or self._heard[-1] is not GAP:
            self._heard.append(GAP)
        self._event.set()

    async def next(self, timeout_seconds: float | None = None) -> Heard | None:
        """Wait for what is said next (see Listening.next)."""
        if not self._heard and not self._closed:
            self._event.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._event.wait()
            except TimeoutError:
                return None
        return self._heard.popleft() if self._heard else None

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while (heard := await self.next()) is not None:
            yield heard

    async def close(self) -> None:
        """Stop listening (see Listening.close)."""
        if not self._closed:
            self._closed = True
            self._event.set()
            self._on_close(self)
