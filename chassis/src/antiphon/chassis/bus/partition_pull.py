"""The pull of one partition for FastStream: `fetch` never raises, never spins, and says what is wrong.

FastStream's own loop takes a lost durable or a closed connection for an empty answer and asks again at once.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from nats.aio.msg import Msg

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import PUBLISH, TRANSIENT, Connection
from antiphon.chassis.bus.consume import AckSubject
from antiphon.chassis.bus.durable import Durable, Place, ensure_durable
from antiphon.chassis.bus.errors import BusUnavailable, ConnectionLost
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.contracts.streams import SESSIONS

log = get_logger(__name__)

EXPIRES_SECONDS = 2.0  # of a pull; a stop waits as long
ANSWER_SECONDS = 3.0  # after that, for the answer to arrive
BACKOFF_SECONDS = 0.5  # after a fault
SILENT_SECONDS = 15.0  # longer than an event may take: after that, nothing pulls any more
ACK_SECONDS = 5.0
ACK_PREFIX = "$JS.ACK."
LATE = 4  # the server delivers one at a time
ACKED, EMPTY = b"+ACK", ("404", "408")


@dataclass
class Delivery(Msg):
    """A delivered event; `subject` is that of its partition: labels and spans have few values."""

    published_on: str = ""
    position: int = 0
    deliveries: int = 0
    ack_subject: str = ""


class PartitionPull:
    """The only way that a process reads one durable, one event at a time."""

    def __init__(self, connection: Connection, durable: Durable, label: str) -> None:
        self.durable = durable
        self.fault: str | None = None
        self.connection = connection
        self._label = label
        self._place: Place | None = None  # of the last event that is done with
        self._lost = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._active_at = time.monotonic()
        self._inbox: str | None = None
        self._waiter: asyncio.Future[Message] | None = None
        self._late: deque[Message] = deque(maxlen=LATE)  # events that came after their pull was given up
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{SESSIONS.name}.{durable.name}"
        self._body = json.dumps({"batch": 1, "expires": int(EXPIRES_SECONDS * 1e9)}).encode()

    async def open(self) -> None:
        """Make or find the durable.

        Raises StreamMissing, DefinitionMismatch, BusUnavailable.
        """
        self._place = await ensure_durable(self.connection, self.durable)
        self._active_at = time.monotonic()
        if self._inbox is None:
            inbox = self.connection.new_inbox()
            await self.connection.subscribe(inbox, self._on_message)
            self.connection.on_reconnect(self._on_reconnect)
            self._inbox = inbox

    def check(self) -> None:
        """Raise BusUnavailable while events of this partition do not arrive."""
        if self.fault is not None:
            raise BusUnavailable(f"{self.durable.name}: {self.fault}")
        silent = time.monotonic() - self._active_at
        if silent > self.durable.ack_wait_seconds + SILENT_SECONDS:
            raise BusUnavailable(f"{self.durable.name}: nothing has asked for events for {silent:.0f} s")

    async def fetch(self, batch: int = 1, timeout: float | None = None) -> list[Msg]:
        """Return the next event, or nothing after two seconds without one; FastStream calls it in a loop."""
        if self._stopping:
            await asyncio.sleep(BACKOFF_SECONDS)
            return []
        self._idle.clear()
        self._active_at = time.monotonic()
        try:
            self.connection.check_permitted(self._next, verb=PUBLISH)
            if self._lost:
                await self._find_again()
            return await self._received(self._late.popleft() if self._late else await self._pull())
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop that calls this must not spin
            await self._wait_after(error)
            return []
        finally:
            self._idle.set()

    async def acknowledge(self, delivery: Delivery) -> None:
        """Tell the server that an event is done with, and wait until it knows.

        Raises BusUnavailable; the event will be delivered again.
        """
        await self._answer(delivery, ACKED)
        if self._place is not None:
            self._place = Place(self._place.stream_created_at, delivery.position)

    async def deliver_again(self, delivery: Delivery, after_seconds: float) -> None:
        """Have an event delivered again after some time; until then no other of its partition is.

        Raises BusUnavailable; it will be delivered again after `ack_wait`.
        """
        await self._answer(delivery, b"-NAK " + json.dumps({"delay": int(after_seconds * 1e9)}).encode())

    async def stop(self) -> None:
        """Ask for no more events, and wait for the open request to end."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(EXPIRES_SECONDS + ANSWER_SECONDS):
                await self._idle.wait()

    async def unsubscribe(self, limit: int = 0) -> None:
        """Do the same as `stop`; FastStream calls it."""
        await self.stop()

    async def pending(self) -> int:
        """Return how many events are not yet done with.

        Raises BusUnavailable, ApiError.
        """
        info = await self.connection.api(f"CONSUMER.INFO.{SESSIONS.name}.{self.durable.name}")
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def _pull(self) -> Message:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(EXPIRES_SECONDS + ANSWER_SECONDS):
                await self.connection.connected.wait()
                await self.connection.publish(self._next, self._body, reply=self._inbox or "")
                return await self._waiter
        except TimeoutError as error:
            raise BusUnavailable("the server did not answer a pull") from error
        finally:
            self._waiter = None

    def _on_message(self, msg: Message) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(msg)
        elif msg.reply.startswith(ACK_PREFIX):
            self._late.append(msg)

    def _on_reconnect(self) -> None:
        if self._waiter is not None and not self._waiter.done():  # the pull may be lost
            self._waiter.set_exception(ConnectionLost("the connection broke during a pull"))

    async def _received(self, reply: Message) -> list[Msg]:
        if not reply.reply.startswith(ACK_PREFIX):
            if reply.status in EMPTY:
                self._recovered()
                return []
            headers: Mapping[str, str] = reply.headers or {}
            description = headers.get("Description") or "no such consumer"
            raise BusUnavailable(f"the server refused a pull: {reply.status} {description}")
        ack = AckSubject.parse(reply.reply)
        delivery = Delivery(
            _client=self.connection.client,
            subject=self._label,
            data=reply.data,
            headers=dict(reply.headers or {}),
            published_on=reply.subject,
            position=ack.position,
            deliveries=ack.deliveries,
            ack_subject=reply.reply,
        )
        if self._stopping:
            await self.deliver_again(delivery, 0)
            return []
        self._recovered()
        return [delivery]

    async def _find_again(self) -> None:
        self._place = await ensure_durable(self.connection, self.durable, self._place)
        self._lost = False

    async def _wait_after(self, error: Exception) -> None:
        text = str(error) or repr(error)
        if self.fault is None:
            # A broken connection is all partitions' and has its own line.
            level = logging.ERROR if self.connection.connected.is_set() else logging.DEBUG
            log.log(level, "consumer.not_reading", extra={"consumer": self.durable.name, "error": text})
        self.fault = text
        self._lost = True  # perhaps: look
        await asyncio.sleep(BACKOFF_SECONDS)

    def _recovered(self) -> None:
        if self.fault is not None:
            log.info("consumer.reading_again", extra={"consumer": self.durable.name})
            self.fault = None

    async def _answer(self, delivery: Delivery, text: bytes) -> None:
        # Without it the partition would wait for `ack_wait`: try for a while, through a short outage.
        try:
            await retrying(*TRANSIENT, timeout_seconds=ACK_SECONDS)(
                self.connection.request, delivery.ack_subject, text, None, ACK_SECONDS
            )
        except TRANSIENT as error:
            raise BusUnavailable(f"position {delivery.position} was not acknowledged: {error!r}") from error
