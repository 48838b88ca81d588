"""Pull a consumer: two overlapped short pulls, kept alive over reconnects, in order or not at all."""

import asyncio
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import structlog

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import TRANSIENT, ApiError, Connection
from antiphon.chassis.bus.deliveries import Deliveries
from antiphon.chassis.bus.errors import BusError, BusUnavailable, ConsumerGap, ConsumerLost
from antiphon.chassis.bus.inbox import new_inbox
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.bus.port import Puller
from antiphon.contracts.streams import ConsumerDefinition

log = structlog.get_logger(__name__)

EXPIRES_SECONDS = 2.0
HEARTBEAT_SECONDS = 1.0
STALL_SECONDS = 3.0  # nothing heard for so long: the pulls are lost
PAUSE_SECONDS = 0.2  # after the server has refused a pull
PATIENCE_SECONDS = 10.0  # for a consumer that nobody answers for

RETRIABLE: tuple[type[Exception], ...] = (BusUnavailable, *TRANSIENT)


class NatsPuller(Puller):
    """Keep up to two batches asked for or buffered, and hand out what has arrived."""

    def __init__(self, connection: Connection, consumer: ConsumerDefinition, batch: int) -> None:
        self._connection = connection
        self._consumer = consumer
        self._batch = batch
        self._deliveries = Deliveries(consumer.name)
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._outstanding = 0
        self._heard = 0.0
        self._unanswered_since: float | None = None
        self._pause_until = 0.0
        self._reconnected = False
        self._failure: BusError | None = None
        self._inbox = new_inbox()
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"

    async def __aenter__(self) -> "NatsPuller":
        info = await self._info()
        if info["num_ack_pending"] > 0:
            # What another took and never acknowledged would come back late and out of order.
            name, open_deliveries = self._consumer.name, info["num_ack_pending"]
            raise ConsumerGap(f"{name} holds {open_deliveries} unacknowledged: reset it first")
        self._deliveries.start_after(info["delivered"]["consumer_seq"])
        self._interest = await self._connection.subscribe(self._inbox, self._on_message)
        self._forget = self._connection.on_reconnect(self._on_reconnect)
        self._task = asyncio.create_task(self._keep_pulling(), name=f"pull {self._consumer.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.unsubscribe(self._interest)

    @property
    def buffered(self) -> int:
        """Return how many messages have arrived and were not taken."""
        return len(self._deliveries)

    async def next(self) -> list[Incoming]:
        """Wait for messages and return at once with those that have arrived (see Puller.next)."""
        while not self._deliveries:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        self._wanted.set()
        return self._deliveries.take(self._batch)

    async def ack_through(self, incoming: Incoming, *, timeout_seconds: float = 5.0) -> None:
        """Acknowledge everything up to this message (see Puller.ack_through)."""
        try:
            await self._connection.request(incoming.ack_subject, b"", timeout_seconds=timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(f"the ack of position {incoming.position} was not noted") from error

    async def _info(self) -> dict[str, Any]:
        try:
            return await self._connection.api(f"CONSUMER.INFO.{self._consumer.stream}.{self._consumer.name}")
        except ApiError as error:
            raise ConsumerLost(f"{self._consumer.name}: {error}") from error

    async def _keep_pulling(self) -> None:
        while self._failure is None:
            await self._connection.connected.wait()
            await asyncio.sleep(max(0.0, self._pause_until - time.monotonic()))
            self._wanted.clear()
            try:
                if self._reconnected:
                    await self._resume()
                await self._pull_what_fits()
            except RETRIABLE:
                self._nobody_answers()
            except BusError as failure:
                self._fail(failure)
            else:
                await _wait(self._wanted, HEARTBEAT_SECONDS)

    async def _resume(self) -> None:
        # What was on its way when the connection broke is lost, but counts as delivered. Pulls that the
        # server may still hold must not deliver behind our back: they end with the inbox that they answer to.
        await self._connection.unsubscribe(self._interest)
        self._inbox = new_inbox()
        self._interest = await self._connection.subscribe(self._inbox, self._on_message)
        info = await self._info()
        self._deliveries.must_reach(info["delivered"]["consumer_seq"])
        self._reconnected = False
        self._outstanding = 0

    async def _pull_what_fits(self) -> None:
        now = time.monotonic()
        if self._outstanding > 0 and now - self._heard > STALL_SECONDS:
            log.warning("pull.stalled", consumer=self._consumer.name, outstanding=self._outstanding)
            self._outstanding = 0
        request = {
            "batch": self._batch,
            "expires": int(EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        }
        body = json.dumps(request).encode()
        while self._outstanding + len(self._deliveries) <= self._batch:
            if self._outstanding == 0:
                self._heard = now
            self._outstanding += self._batch
            await self._connection.publish(self._next_subject, body, reply=self._inbox)

    def _on_message(self, msg: Message) -> None:
        self._heard = time.monotonic()
        if not msg.reply.startswith("$JS.ACK."):
            self._on_status(msg)
            return
        if self._failure is not None:
            return
        try:
            self._deliveries.add(msg)
        except ConsumerGap as gap:
            self._fail(gap)
            return
        self._unanswered_since = None
        self._answered(1)
        self._arrived.set()

    def _on_status(self, msg: Message) -> None:
        code = msg.status
        headers: Mapping[str, str] = msg.headers or {}
        description = headers.get("Description", "")
        if code == "100":  # idle heartbeat: the server still holds our pull
            return
        self._answered(int(headers.get("Nats-Pending-Messages", self._batch)))
        if code in ("404", "408"):  # nothing came in time: the ordinary end of a quiet pull
            self._unanswered_since = None
        elif code == "503":
            self._nobody_answers()
        elif code == "409" and "Deleted" not in description:
            log.info("pull.refused", consumer=self._consumer.name, description=description)
            self._pause_until = time.monotonic() + PAUSE_SECONDS
        else:
            self._fail(ConsumerLost(f"{self._consumer.name}: {code} {description}"))

    def _answered(self, count: int) -> None:
        self._outstanding = max(0, self._outstanding - count)
        if self._outstanding + len(self._deliveries) <= self._batch:
            self._wanted.set()

    def _nobody_answers(self) -> None:
        # A restart or an election looks like this for a moment; a stream that is gone does for ever.
        now = time.monotonic()
        self._unanswered_since = self._unanswered_since or now
        if now - self._unanswered_since > PATIENCE_SECONDS:
            self._fail(ConsumerLost(f"{self._consumer.name}: nobody answers for it"))
        self._pause_until = now + PAUSE_SECONDS

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self._wanted.set()

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
