"""The NATS client: it calls message handlers from its read loop, and parses headers on first access.

nats-py puts each message into a queue and wakes a task for it, which is two thirds of the cost of receiving.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from antiphon.chassis.bus.protocol import Parser
from antiphon.chassis.bus.renewed import Renewal, RenewedClient
from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

CLOSE_SECONDS = 2.0
PREAMBLE = len(b"NATS/1.0")
NOT_PERMITTED = "permissions violation"


class Headers(Mapping[str, str]):
    """The headers of a message, parsed on first access."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    @property
    def size(self) -> int:
        """The size in bytes, as received."""
        return len(self._raw)

    @property
    def has_status(self) -> bool:
        """Whether the first line carries a status."""
        return self._raw[PREAMBLE : PREAMBLE + 1] == b" "

    def added(self, name: str) -> str | None:
        """Return a header that the server has added to a stored message, exactly as it was sent.

        The server adds its headers after the publisher's, which may have the same names or be damaged.
        """
        start = self._raw.rfind(b"\r\n%b: " % name.encode())
        if start < 0:
            return None
        start += len(name) + 4
        end = self._raw.find(b"\r\n", start)
        return self._raw[start : end if end >= 0 else None].decode("utf-8", "surrogateescape")

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
            # The first line is "NATS/1.0", or "NATS/1.0 408 Request Timeout" in a status message.
            first, *lines = self._raw.decode("utf-8", "replace").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            self._parsed = {name.strip(): value.strip() for name, separator, value in pairs if separator}
            if self.has_status:
                code, _, description = first[PREAMBLE + 1 :].partition(" ")
                self._parsed |= {"Status": code, "Description": description.strip()}
        return self._parsed


class Message(Struct, frozen=True):
    """A message as received."""

    subject: str
    reply: str
    data: bytes
    headers: Headers | None

    @property
    def size(self) -> int:
        """The size of data and headers in bytes."""
        return len(self.data) + (self.headers.size if self.headers is not None else 0)

    @property
    def status(self) -> str | None:
        """The status of a message without data, such as "503" or "408"; None for a message with data."""
        return self.headers["Status"] if self.headers is not None and self.headers.has_status else None


OnMessage = Callable[[Message], None]


class NatsClient(RenewedClient):
    """The nats-py client with synchronous message handlers."""

    def __init__(
        self, renewal: Renewal | None = None, *, on_not_permitted: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(renewal)
        self._on_not_permitted = on_not_permitted
        self._ps = Parser(self)
        self._handlers: dict[int, OnMessage] = {}

    async def add_handler(self, subject: str, on_message: OnMessage, group: str = "") -> int:
        """Subscribe with a handler that must not block; return the id for `remove_handler`."""
        self._handlers[self._sid + 1] = on_message
        subscription = await self.subscribe(subject, queue=group)
        return subscription._id

    async def remove_handler(self, sid: int) -> None:
        """Unsubscribe."""
        self._handlers.pop(sid, None)
        subscription = self._subs.get(sid)
        if subscription is not None:
            await subscription.unsubscribe()

    async def _process_err(self, err_msg: str) -> None:
        # nats-py knows errors in lower case; the subject of a permission must be as it is
        if NOT_PERMITTED in err_msg.lower() and self._on_not_permitted is not None:
            self._on_not_permitted(err_msg.strip("'"))
        else:
            await super()._process_err(err_msg.lower())

    async def end(self) -> None:
        """Disconnect for good, within seconds; what has not been sent is dropped."""
        # nats-py would flush into a broken connection, fail, and leave its tasks running.
        self._pending, self._pending_data_size = [], 0
        closing = asyncio.ensure_future(self.close())
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        if closing.done() and not closing.cancelled() and closing.exception() is None:
            return
        closing.cancel()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()  # a graceful end waits for a server that may not read
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            # A subject need not be UTF-8: the server delivers any bytes.
            handler(
                Message(
                    subject.decode("utf-8", "surrogateescape"),
                    reply.decode("utf-8", "surrogateescape"),
                    data,
                    Headers(headers) if headers else None,
                )
            )
        except Exception:
            # An exception here would end the read loop, and with it every request on this connection.
            log.exception("nats.handler_failed", extra={"subject": repr(subject)})
