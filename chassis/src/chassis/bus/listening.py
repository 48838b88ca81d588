"""Listen on core NATS: one subscription per subject for all its listeners, honest about what it missed."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.bus.connection import Connection
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

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while not self._closed:
            while self._heard:
                yield self._heard.popleft()
            self._event.clear()
            await self._event.wait()

    async def close(self) -> None:
        """Stop listening (see Listening.close)."""
        if not self._closed:
            self._closed = True
            self._event.set()
            self._on_close(self)


class Shared:
    """Fan one subscription out to the listeners of its subject."""

    def __init__(self) -> None:
        self.listeners: set[QueueListening] = set()
        self.subscription: Subscription | None = None

    async def hear(self, msg: Msg) -> None:
        """Hand a message to every listener."""
        for listener in self.listeners:
            listener.put(msg.subject, msg.data)


class Listeners:
    """Keep the connection's listeners by subject."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_subject: dict[str, Shared] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        connection.on_reconnect(self._reconnected)

    async def listen(self, subject: str) -> Listening:
        """Listen from now on: when this returns, the server knows (see Bus.listen)."""
        shared = self._by_subject.get(subject)
        if shared is None:
            shared = self._by_subject[subject] = Shared()
        listener = QueueListening(lambda gone: self._gone(subject, gone))
        shared.listeners.add(listener)
        if shared.subscription is None:
            shared.subscription = await self._connection.client.subscribe(subject, cb=shared.hear)
        await self._connection.round_trip()
        return listener

    def _reconnected(self) -> None:
        for shared in self._by_subject.values():
            for listener in shared.listeners:
                listener.gap()

    def _gone(self, subject: str, listener: QueueListening) -> None:
        shared = self._by_subject[subject]
        shared.listeners.discard(listener)
        if not shared.listeners:
            del self._by_subject[subject]
            if shared.subscription is not None and not self._connection.client.is_closed:
                task = asyncio.create_task(shared.subscription.unsubscribe(), name=f"unsubscribe {subject}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
