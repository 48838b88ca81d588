"""Pull a consumer: two overlapped short pulls, kept alive over reconnects, in order or not at all."""

import asyncio
import json
import time
from collections import deque
from types import TracebackType

import structlog
from nats.aio.msg import Msg

from chassis.bus import ack_subject
from chassis.bus.connection import TRANSIENT, ApiError, Connection, status
from chassis.bus.errors import BusError, BusUnavailable, ConsumerGap, ConsumerLost
from chassis.bus.inbox import new_inbox
from chassis.bus.messages import Incoming
from chassis.bus.port import Puller
from contracts.streams import ConsumerDefinition

log = structlog.get_logger(__name__)

EXPIRES_SECONDS = 2.0
HEARTBEAT_SECONDS = 1.0
STALL_SECONDS = 3.0  # nothing heard for so long: the pulls are lost
PAUSE_SECONDS = 0.2  # after the server has refused a pull
PATIENCE_SECONDS = 10.0  # for a consumer that nobody answers for


class NatsPuller(Puller):
    """Keep up to two batches asked for or buffered, and hand out what has arrived."""

    def __init__(self, connection: Connection, consumer: ConsumerDefinition, batch: int) -> None:
        self._connection = connection
        self._consumer = consumer
        self._batch = batch
        self._buffer: deque[Incoming] = deque()
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._outstanding = 0
        self._heard = time.monotonic()
        self._unanswered_since: float | None = None
        self._pause_until = 0.0
        self._failure: BusError | None = None
        self._consumer_sequence = 0
        self._position = 0
        self._inbox = new_inbox()
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"

    async def __aenter__(self) -> "NatsPuller":
        await self._start_clean()
        self._interest = await self._connection.subscribe(self._inbox, self._on_message)
        self._forget = self._connection.on_reconnect(self._pull_anew)
        self._task = asyncio.create_task(self._keep_pulling(), name=f"pull {self._consumer.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.unsubscribe(self._interest)

    async def next(self) -> list[Incoming]:
        """Wait for messages and return at once with those that have arrived (see Puller.next)."""
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._buffer) <= self._batch:
            taken = list(self._buffer)
            self._buffer.clear()
        else:
            taken = [self._buffer.popleft() for _ in range(self._batch)]
        self._wanted.set()
        return taken

    async def ack_through(self, incoming: Incoming, *, timeout_seconds: float = 5.0) -> None:
        """Acknowledge everything up to this message (see Puller.ack_through)."""
        try:
            await self._connection.request(incoming.ack_subject, b"", timeout_seconds=timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(f"the ack of position {incoming.position} was not noted") from error

    async def _start_clean(self) -> None:
        # Deliveries that another puller took and never acknowledged would come back late and out of order.
        try:
            info = await self._connection.api(f"CONSUMER.INFO.{self._consumer.stream}.{self._consumer.name}")
        except ApiError as error:
            raise ConsumerLost(f"{self._consumer.name}: {error}") from error
        if info["num_ack_pending"] > 0:
            raise ConsumerGap(
                f"{self._consumer.name} holds {info['num_ack_pending']} unacknowledged: reset it first"
            )
        self._consumer_sequence = info["delivered"]["consumer_seq"]

    async def _keep_pulling(self) -> None:
        while self._failure is None:
            await self._connection.connected.wait()
            now = time.monotonic()
            if self._outstanding > 0 and now - self._heard > STALL_SECONDS:
                log.warning("pull.stalled", consumer=self._consumer.name, outstanding=self._outstanding)
                self._pull_anew()
            if now >= self._pause_until:
                await self._pull_what_fits()
            self._wanted.clear()
            delay = max(0.01, self._pause_until - now) if now < self._pause_until else HEARTBEAT_SECONDS
            await _wait(self._wanted, delay)

    async def _pull_what_fits(self) -> None:
        request = {
            "batch": self._batch,
            "expires": int(EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        }
        body = json.dumps(request).encode()
        while max(0, self._outstanding) + len(self._buffer) <= self._batch:
            if self._outstanding <= 0:
                self._outstanding, self._heard = 0, time.monotonic()
            self._outstanding += self._batch
            try:
                await self._connection.publish(self._next_subject, body, reply=self._inbox)
            except TRANSIENT:
                self._outstanding = 0
                self._pause(PAUSE_SECONDS)
                return

    def _pull_anew(self) -> None:
        # What was asked for on a lost connection is lost with it; the server sends nothing for it.
        self._outstanding = 0
        self._wanted.set()

    async def _on_message(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        if msg.reply and msg.reply.startswith("$JS.ACK."):
            self._on_delivery(msg)
        else:
            self._on_status(msg)

    def _on_delivery(self, msg: Msg) -> None:
        if self._failure is not None:
            return
        try:
            delivery = ack_subject.parse(msg.reply)
        except ValueError as error:
            self._fail(ConsumerGap(str(error)))
            return
        if delivery.consumer_sequence != self._consumer_sequence + 1 or delivery.position <= self._position:
            self._fail(
                ConsumerGap(
                    f"{self._consumer.name}: delivery {delivery.consumer_sequence} at position "
                    f"{delivery.position} came after {self._consumer_sequence} at {self._position}"
                )
            )
            return
        self._unanswered_since = None
        self._consumer_sequence, self._position = delivery.consumer_sequence, delivery.position
        self._buffer.append(
            Incoming(
                subject=msg.subject,
                payload=msg.data,
                position=delivery.position,
                consumer_sequence=delivery.consumer_sequence,
                headers=msg.headers,
                published_at=delivery.published_at,
                ack_subject=msg.reply,
            )
        )
        self._outstanding -= 1
        self._arrived.set()
        if self._outstanding + len(self._buffer) <= self._batch:
            self._wanted.set()

    def _on_status(self, msg: Msg) -> None:
        code = status(msg)
        headers = msg.headers or {}
        description = headers.get("Description", "")
        if code == "100":  # idle heartbeat: the server still holds our pull
            return
        self._outstanding -= int(headers.get("Nats-Pending-Messages", self._batch))
        self._wanted.set()
        if code in ("404", "408"):  # nothing came in time: the ordinary end of a quiet pull
            self._unanswered_since = None
        elif code == "503":
            self._nobody_answers()
        elif code == "409" and "Deleted" in description:
            self._fail(ConsumerLost(f"{self._consumer.name}: {description}"))
        elif code == "409":
            log.info("pull.refused", consumer=self._consumer.name, description=description)
            self._pause(PAUSE_SECONDS)
        else:
            self._fail(ConsumerLost(f"{self._consumer.name}: {code} {description}"))

    def _nobody_answers(self) -> None:
        # A restart or an election looks like this for a moment; a deleted consumer does for ever.
        now = time.monotonic()
        self._unanswered_since = self._unanswered_since or now
        if now - self._unanswered_since > PATIENCE_SECONDS:
            self._fail(ConsumerLost(f"{self._consumer.name}: nobody answers for it"))
        self._pause(PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._pause_until = time.monotonic() + seconds

    def _fail(self, failure: BusError) -> None:
        if self._failure is None:
            self._failure = failure
            log.warning("pull.failed", consumer=self._consumer.name, error=str(failure))
        self._arrived.set()
        self._wanted.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
