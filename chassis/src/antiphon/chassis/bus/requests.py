"""Requests and their replies over core NATS: nothing is stored, and one of a group of responders answers."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import TRANSIENT, Connection, ServerSubscription
from antiphon.chassis.bus.errors import BusUnavailable, NoResponder, NotPermitted, PayloadTooLarge
from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

REQUEST_DEADLINE_SECONDS = 5.0
NO_RESPONDERS = "503"
REFUSED = "Antiphon-Refused"  # a header of the reply to a request that was not handled, with the reason
WAITING = 32  # requests that wait for a responder
WAITING_BYTES = 8 << 20  # of their payloads, all but the newest

Handler = Callable[[bytes], Awaitable[bytes]]


async def request(connection: Connection, subject: str, payload: bytes, timeout_seconds: float) -> bytes:
    """Send a request and return the payload of the reply (see Bus.request)."""
    try:
        reply = await connection.request(subject, payload, timeout_seconds=timeout_seconds)
    except NotPermitted:
        raise
    except TRANSIENT as error:
        raise BusUnavailable(
            f"nobody answered on {subject} within {timeout_seconds:g} s: {error!r}"
        ) from error
    if reply.status == NO_RESPONDERS:
        raise NoResponder(f"nobody answers requests on {subject}")
    if reply.headers is not None and (reason := reply.headers.get(REFUSED)):
        raise BusUnavailable(f"{subject}: {reason}")
    return reply.data


class Responder:
    """Answers the requests on a subject, one at a time; those of a group share them.

    A request that waits longer than `deadline_seconds` is dropped, and so are the oldest of too many: nobody
    waits for their reply any more. One whose handler fails or takes longer is refused, with the reason.
    """

    def __init__(
        self, connection: Connection, subject: str, handler: Handler, deadline_seconds: float
    ) -> None:
        self._connection = connection
        self._subject = subject
        self._handler = handler
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[tuple[float, Message]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._subscription: ServerSubscription | None = None
        self._task: BackgroundTask | None = None

    async def start(self, group: str) -> None:
        """Subscribe. Raises BusUnavailable, InvalidSubject."""
        self._subscription = await self._connection.subscribe(self._subject, self._on_message, group)
        self._task = BackgroundTask(self._respond, name=f"respond to {self._subject}")
        try:
            await self._connection.round_trip()
            self._connection.check_permitted(self._subject)
        except BaseException:
            await self.close()
            raise

    async def ready(self) -> None:
        """Raise BackgroundTaskFailed while requests are not answered; for `Health.add`."""
        if self._task is not None:
            self._task.check()

    async def close(self) -> None:
        """Answer no more; what waits is dropped."""
        if self._subscription is not None:
            await self._connection.unsubscribe(self._subscription)
        if self._task is not None:
            await self._task.close()

    def _on_message(self, message: Message) -> None:
        if not message.reply:
            return
        self._waiting.append((time.monotonic(), message))
        self._bytes += len(message.data)
        while len(self._waiting) > WAITING or (len(self._waiting) > 1 and self._bytes > WAITING_BYTES):
            self._bytes -= len(self._waiting.popleft()[1].data)  # the one that has waited longest
        self._arrived.set()

    async def _respond(self) -> None:
        while True:
            await self._arrived.wait()
            while self._waiting:
                arrived_at, message = self._waiting.popleft()
                self._bytes -= len(message.data)
                if time.monotonic() - arrived_at < self._deadline_seconds:
                    await self._answer(message)
            self._arrived.clear()

    async def _answer(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                reply = await self._handler(message.data)
        except Exception as error:  # the reply says so, and the next request is another one
            log.exception("bus.request_failed", extra={"subject": self._subject})
            late = isinstance(error, TimeoutError)
            reason = f"no answer within {self._deadline_seconds:g} s" if late else type(error).__name__
            await self._send(message.reply, b"", {REFUSED: reason})
        else:
            await self._send(message.reply, reply, None)

    async def _send(self, reply: str, payload: bytes, headers: dict[str, str] | None) -> None:
        try:
            await self._connection.publish(reply, payload, headers)
        except PayloadTooLarge as error:
            await self._send(reply, b"", {REFUSED: f"the answer is too large: {error}"})
        except TRANSIENT as error:  # the connection is gone, and with it who asked
            log.warning("bus.reply_failed", extra={"subject": self._subject, "error": repr(error)})
