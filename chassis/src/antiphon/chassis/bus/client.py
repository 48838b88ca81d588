"""The NATS client without what costs two thirds of receiving: a queue and a task hop, and headers unread."""

from collections.abc import Callable, Iterator, Mapping

import structlog
from msgspec import Struct
from nats.aio.client import Client

log = structlog.get_logger(__name__)

PREAMBLE = len(b"NATS/1.0")
SPACE = ord(" ")


class Headers(Mapping[str, str]):
    """Read the headers of a message when somebody asks for one."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    @property
    def with_status(self) -> bool:
        """Say whether the first line carries a status."""
        return self._raw[PREAMBLE] == SPACE

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            # The first line is "NATS/1.0", and "NATS/1.0 408 Request Timeout" in a status message.
            first, *lines = self._raw.decode("utf-8", "replace").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            self._parsed = {name.strip(): value.strip() for name, separator, value in pairs if separator}
            if self.with_status:
                code, _, description = first[PREAMBLE + 1 :].partition(" ")
                self._parsed |= {"Status": code, "Description": description.strip()}
        return self._parsed


class Message(Struct, frozen=True):
    """Hold a message as it came; `status` tells a bare status from a message of data."""

    subject: str
    reply: str
    data: bytes
    headers: Headers | None

    @property
    def status(self) -> str | None:
        """Return the status of a message that carries no data, such as "503" or "408"."""
        return self.headers["Status"] if self.headers is not None and self.headers.with_status else None


OnMessage = Callable[[Message], None]


class QuickClient(Client):
    """Call a subscription's handler from the read loop itself."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, OnMessage] = {}

    async def subscribe_directly(self, subject: str, on_message: OnMessage) -> int:
        """Subscribe with a handler that does not wait; returns the id for `unsubscribe_directly`."""
        self._handlers[self._sid + 1] = on_message
        subscription = await self.subscribe(subject)
        return subscription._id

    async def unsubscribe_directly(self, sid: int) -> None:
        """End a subscription."""
        self._handlers.pop(sid, None)
        subscription = self._subs.get(sid)
        if subscription is not None:
            await subscription.unsubscribe()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        message = Message(subject.decode(), reply.decode(), data, Headers(headers) if headers else None)
        try:
            handler(message)
        except Exception:
            # An error here would end the read loop, and with it every conversation of this connection.
            log.exception("nats.handler_failed", subject=message.subject)
