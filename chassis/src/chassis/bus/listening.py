"""Listen on core NATS: one subscription per subject for all its listeners, honest about what it missed."""

import asyncio

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.bus.connection import Connection
from chassis.bus.heard import QueueListening
from chassis.bus.port import Listening


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
