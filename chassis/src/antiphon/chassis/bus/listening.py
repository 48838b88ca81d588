"""Listen on core NATS: one subscription per subject for all its listeners, honest about what it missed."""

import asyncio

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import Connection, Interest
from antiphon.chassis.bus.heard import QueueSubscription
from antiphon.chassis.bus.port import Subscription


class Shared:
    """Fan one subscription out to the listeners of its subject."""

    def __init__(self) -> None:
        self.listeners: set[QueueSubscription] = set()
        self.interest: Interest | None = None

    def hear(self, msg: Message) -> None:
        """Hand a message to every listener."""
        for listener in self.listeners:
            listener.put(msg.subject, msg.data)


class Listeners:
    """Keep the connection's listeners by subject."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_subject: dict[str, Shared] = {}
        self._subscribing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        connection.on_reconnect(self._reconnected)

    async def subscribe(self, subject: str) -> Subscription:
        """Listen from now on: when this returns, the server knows (see Bus.listen)."""
        async with self._subscribing:
            shared = self._by_subject.get(subject)
            if shared is None:
                shared = await self._subscribe(subject)
            listener = QueueSubscription(lambda gone: self._gone(subject, gone))
            shared.listeners.add(listener)
            return listener

    async def _subscribe(self, subject: str) -> Shared:
        shared = Shared()
        shared.interest = await self._connection.subscribe(subject, shared.hear)
        try:
            await self._connection.round_trip()
        except BaseException:
            self._leave(shared)
            raise
        self._by_subject[subject] = shared
        return shared

    def _reconnected(self) -> None:
        for shared in self._by_subject.values():
            for listener in shared.listeners:
                listener.gap()

    def _gone(self, subject: str, listener: QueueSubscription) -> None:
        shared = self._by_subject[subject]
        shared.listeners.discard(listener)
        if not shared.listeners:
            del self._by_subject[subject]
            self._leave(shared)

    def _leave(self, shared: Shared) -> None:
        if shared.interest is not None:
            task = asyncio.create_task(self._connection.unsubscribe(shared.interest), name="unsubscribe")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
