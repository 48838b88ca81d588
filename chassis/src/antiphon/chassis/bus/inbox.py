"""The replies to the requests of a connection: one subscription, one subject per request."""

import asyncio
from itertools import count
from typing import Any

from antiphon.chassis.bus.client import Message, OnMessage
from antiphon.chassis.bus.errors import ConnectionLost, NotPermitted


class Inbox:
    """The reply subjects of a connection: one subscription, one token per request."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "."
        self._tokens = count(1)
        self._pending: dict[str, tuple[OnMessage, asyncio.Future[Any], str]] = {}

    @property
    def subject(self) -> str:
        """The subject filter of all replies."""
        return f"{self._prefix}*"

    def add(self, on_message: OnMessage, done: asyncio.Future[Any], asked: str) -> str:
        """Return a new reply subject for a request on the subject `asked`.

        `done` fails with ConnectionLost when the connection breaks, NotPermitted when the server refuses it.
        """
        reply_subject = f"{self._prefix}{next(self._tokens)}"
        self._pending[reply_subject] = (on_message, done, asked)
        return reply_subject

    def remove(self, reply_subject: str) -> None:
        """Ignore further replies to this subject."""
        self._pending.pop(reply_subject, None)

    def on_message(self, msg: Message) -> None:
        """Pass a reply to the handler of its subject."""
        pending = self._pending.get(msg.subject)
        if pending is not None:
            pending[0](msg)

    def fail_pending(self) -> None:
        """Fail every open request: its reply cannot arrive any more."""
        for _, done, _ in self._pending.values():
            if not done.done():
                done.set_exception(ConnectionLost("the connection broke before the reply arrived"))

    def refuse(self, asked: str, reason: str) -> None:
        """Fail the open requests on a subject, or all if it is that of the replies: none will be answered."""
        for _, done, subject in self._pending.values():
            if asked in (subject, self.subject) and not done.done():
                done.set_exception(NotPermitted(reason))
