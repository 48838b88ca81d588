"""Subscribe to announcements on core NATS; subscriptions to one subject share a server subscription."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import Connection, ServerSubscription
from antiphon.chassis.bus.errors import BusUnavailable

SUBSCRIBE_DEADLINE_SECONDS = 10.0  # with those that wait for their turn
QUEUE_LIMIT = 4096  # announcements that a slow subscriber may leave in its queue
QUEUE_BYTES = 4 << 20  # of their payloads, all but the newest

Announcement = tuple[str, bytes]  # subject and payload
# Announcements may have been missed before the next one: read the log.
MISSED: Final[Announcement] = ("", b"")


class Subscription:
    """A bounded queue of announcements; `MISSED` replaces what a reconnect or an overflow may have lost."""

    def __init__(
        self,
        on_close: Callable[["Subscription"], None],
        limit: int = QUEUE_LIMIT,
        max_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._queue: deque[Announcement] = deque()
        self._bytes = 0
        self._limit = limit
        self._max_bytes = max_bytes
        self._on_close = on_close
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None

    @property
    def empty(self) -> bool:
        """Whether `next` would wait."""
        return not self._queue

    def put(self, subject: str, payload: bytes) -> None:
        """Queue an announcement; a full queue is cleared first and starts again with MISSED."""
        if len(self._queue) >= self._limit or self._bytes > self._max_bytes:
            self._queue.clear()
            self._bytes = 0
            self.put_missed()
        self._queue.append((subject, payload))
        self._bytes += len(payload)
        self._wake()

    def put_missed(self) -> None:
        """Queue MISSED, unless it is the newest entry already."""
        if not self._queue or self._queue[-1] is not MISSED:
            self._queue.append(MISSED)
        self._wake()

    async def next(self, timeout_seconds: float | None = None) -> Announcement | None:
        """Return the next announcement, or None after `timeout_seconds` without one, or once closed."""
        if not self._queue and not self._closed:
            await self._wait(timeout_seconds)
        if not self._queue:
            return None
        announcement = self._queue.popleft()
        self._bytes -= len(announcement[1])
        return announcement

    def wake(self) -> None:
        """End the wait of `next`, which returns None."""
        self._wake()

    async def __aiter__(self) -> AsyncIterator[Announcement]:
        while (announcement := await self.next()) is not None:
            yield announcement

    async def close(self) -> None:
        """Unsubscribe; iteration ends after what is queued."""
        if not self._closed:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._wake()
            self._on_close(self)

    async def _wait(self, timeout_seconds: float | None) -> None:
        # One timer serves many waits: with thousands of subscribers, a timer per wait would cost more than
        # the announcements.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        if self._deadline is not None:
            if self._timer is not None and self._timer.when() > self._deadline:
                self._timer.cancel()
                self._timer = None
            if self._timer is None:
                self._timer = loop.call_at(self._deadline, self._on_timer)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._deadline is None:
            return
        loop = self._waiter.get_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._on_timer)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SharedSubscription:
    """A server subscription and the local subscriptions that share it."""

    def __init__(self) -> None:
        self.subscribers: set[Subscription] = set()
        self.on_server: ServerSubscription | None = None

    def on_message(self, msg: Message) -> None:
        """Queue a message for every subscriber."""
        for subscriber in self.subscribers:
            subscriber.put(msg.subject, msg.data)


class Subscriptions:
    """The subscriptions of a connection, by subject."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_subject: dict[str, SharedSubscription] = {}
        self._subscribing = asyncio.Lock()
        self._unsubscribing: set[asyncio.Task[None]] = set()
        connection.on_reconnect(self._put_missed)

    async def subscribe(self, subject: str, max_bytes: int = QUEUE_BYTES) -> Subscription:
        """Subscribe; once this returns, the server has registered the subscription (see Bus.subscribe)."""
        try:
            async with asyncio.timeout(SUBSCRIBE_DEADLINE_SECONDS), self._subscribing:
                shared = self._by_subject.get(subject)
                if shared is None:
                    shared = await self._subscribe_on_server(subject)
        except TimeoutError as error:
            raise BusUnavailable(f"cannot subscribe to {subject}: no answer in time") from error
        subscription = Subscription(lambda closed: self._remove(subject, closed), max_bytes=max_bytes)
        shared.subscribers.add(subscription)
        return subscription

    async def _subscribe_on_server(self, subject: str) -> SharedSubscription:
        shared = SharedSubscription()
        shared.on_server = await self._connection.subscribe(subject, shared.on_message)
        try:
            await self._connection.round_trip()
            self._connection.check_permitted(subject)
        except BaseException:
            self._unsubscribe(shared)
            raise
        self._by_subject[subject] = shared
        return shared

    def _put_missed(self) -> None:
        for shared in self._by_subject.values():
            for subscription in shared.subscribers:
                subscription.put_missed()

    def _remove(self, subject: str, subscription: Subscription) -> None:
        shared = self._by_subject[subject]
        shared.subscribers.discard(subscription)
        if not shared.subscribers:
            del self._by_subject[subject]
            self._unsubscribe(shared)

    def _unsubscribe(self, shared: SharedSubscription) -> None:
        if shared.on_server is not None:
            task = asyncio.create_task(self._connection.unsubscribe(shared.on_server), name="unsubscribe")
            self._unsubscribing.add(task)
            task.add_done_callback(self._unsubscribing.discard)
