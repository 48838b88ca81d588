"""One reply subscription per connection; each request has its token, and a handler that runs at once."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from nats.nuid import NUID

from antiphon.chassis.bus.client import Message

if TYPE_CHECKING:
    from antiphon.chassis.bus.connection import Connection

Handler = Callable[[Message], None]


class ConnectionLost(Exception):
    """The connection broke while an answer was awaited."""


class Inbox:
    """Route replies to those who wait for them."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._prefix = new_inbox() + "."
        self._skip = len(self._prefix)
        self._tokens = count(1)
        self._handlers: dict[str, Handler] = {}
        self._waiting: set[asyncio.Future[Any]] = set()

    async def open(self) -> None:
        """Subscribe, once per connection; reconnects keep the subscription."""
        await self._connection.subscribe(f"{self._prefix}*", self._on_reply)

    def route(self, handler: Handler) -> str:
        """Return a fresh reply subject whose messages go to the handler, until `release`."""
        token = str(next(self._tokens))
        self._handlers[token] = handler
        return self._prefix + token

    def release(self, reply_subject: str) -> None:
        """Forget a reply subject."""
        self._handlers.pop(reply_subject[self._skip :], None)

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, timeout_seconds: float
    ) -> Message:
        """Send and await one reply.

        Raises TimeoutError, ConnectionLost, and what nats-py raises when it cannot send.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Message] = loop.create_future()
        reply_subject = self.route(lambda msg: None if future.done() else future.set_result(msg))
        timer = loop.call_later(timeout_seconds, _expire, future)
        self.awaited(future)
        try:
            await self._connection.publish(subject, payload, headers, reply_subject)
            return await future
        finally:
            timer.cancel()
            self.forget(future)
            self.release(reply_subject)

    def awaited(self, future: asyncio.Future[Any]) -> None:
        """Fail this future too when the connection breaks."""
        self._waiting.add(future)

    def forget(self, future: asyncio.Future[Any]) -> None:
        """End `awaited`."""
        self._waiting.discard(future)

    def connection_lost(self) -> None:
        """Fail every open request now: its answer cannot come any more."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionLost())

    def _on_reply(self, msg: Message) -> None:
        handler = self._handlers.get(msg.subject[self._skip :])
        if handler is not None:
            handler(msg)


def new_inbox() -> str:
    """Return a reply subject that nobody else has."""
    return f"_INBOX.{NUID().next().decode()}"


def _expire(future: asyncio.Future[Message]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
