"""Pull a consumer: overlapping short pulls that survive reconnects, deliveries checked for gaps, acks."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus.client import Headers, Message
from antiphon.chassis.bus.connection import PUBLISH, TRANSIENT, Connection
from antiphon.chassis.bus.errors import (
    ApiError,
    BusError,
    BusUnavailable,
    ConsumerGap,
    ConsumerLost,
    NotPermitted,
)
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.streams import ConsumerDefinition

log = get_logger(__name__)

ACK_DEADLINE_SECONDS = 5.0
PULL_BYTES = 1 << 20  # of one pull, and of what `next` returns; at least the largest message
ENVELOPE_BYTES = 16 << 10  # around a payload: subject, ack subject, protocol
# The ends of a pull with a limit in bytes: it is used up, or the next message does not fit into the rest.
COMPLETED, TOO_LARGE = "Batch Completed", "Message Size Exceeds MaxBytes"
EXPIRES_SECONDS = 2.0
HEARTBEAT_SECONDS = 1.0
STALL_SECONDS = 3.0  # without any message for this long, outstanding pulls count as lost
BACKOFF_SECONDS = 0.2  # after the server has refused a pull
UNANSWERED_SECONDS = 10.0  # without any answer for this long, the consumer counts as lost


class AckSubject(NamedTuple):
    """The numbers in the ack subject of a delivery."""

    position: int
    consumer_sequence: int
    deliveries: int
    published_at: datetime
    pending: int

    @classmethod
    def parse(cls, text: str) -> "AckSubject":
        """Parse `$JS.ACK.…`: 9 tokens, or 11 and more with domain and account.

        Raises ValueError.
        """
        tokens = text.split(".")
        if len(tokens) == 9:
            deliveries, position, consumer_sequence, nanoseconds, pending = tokens[4:9]
        elif len(tokens) >= 11:
            deliveries, position, consumer_sequence, nanoseconds, pending = tokens[6:11]
        else:
            raise ValueError(f"not an ack subject: {text!r}")
        try:
            published_at = datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC)
        except (OverflowError, OSError) as error:
            raise ValueError(f"not an ack subject: {text!r}") from error
        return cls(int(position), int(consumer_sequence), int(deliveries), published_at, int(pending))


class Deliveries:
    """A buffer of deliveries that checks that each one follows the last."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._buffer: deque[Incoming] = deque()
        self._sequence = 0
        self._position = 0
        self.bytes = 0  # of what is buffered
        self.mean_bytes = 0.0  # of the messages that were taken last

    def __len__(self) -> int:
        return len(self._buffer)

    def start_after(self, consumer_sequence: int) -> None:
        """Expect the delivery after this one next."""
        self._sequence = consumer_sequence

    def check_received(self, consumer_sequence: int) -> None:
        """Check that every delivery up to this one has arrived.

        Raises ConsumerGap.
        """
        if consumer_sequence != self._sequence:
            raise ConsumerGap(
                f"{self._consumer}: the server has sent delivery {consumer_sequence}, "
                f"the last to arrive is {self._sequence}"
            )

    def add(self, msg: Message) -> None:
        """Append a delivery.

        Raises ConsumerGap.
        """
        try:
            ack = AckSubject.parse(msg.reply)
        except ValueError as error:
            raise ConsumerGap(f"{self._consumer}: {error}") from error
        if ack.consumer_sequence != self._sequence + 1 or ack.position <= self._position:
            raise ConsumerGap(
                f"{self._consumer}: delivery {ack.consumer_sequence} of position {ack.position} "
                f"came after {self._sequence} of position {self._position}"
            )
        self._sequence, self._position = ack.consumer_sequence, ack.position
        self._buffer.append(
            Incoming(
                subject=msg.subject,
                payload=msg.data,
                position=ack.position,
                consumer_sequence=ack.consumer_sequence,
                headers=msg.headers,
                published_at=ack.published_at,
                ack_subject=msg.reply,
            )
        )
        self.bytes += msg.size

    def take(self, limit: int, limit_bytes: int) -> list[Incoming]:
        """Remove and return the oldest deliveries: at least one, at most `limit`, within `limit_bytes`."""
        size = self.bytes
        if len(self._buffer) <= limit and size <= limit_bytes:
            taken = list(self._buffer)
            self._buffer.clear()
        else:
            taken, size = [], 0
            while self._buffer and len(taken) < limit:
                next_size = _size(self._buffer[0])
                if taken and size + next_size > limit_bytes:
                    break
                taken.append(self._buffer.popleft())
                size += next_size
        self.bytes -= size
        self.mean_bytes = size / len(taken)
        return taken


def _size(incoming: Incoming) -> int:
    """Return the same as the size of its message."""
    headers = incoming.headers
    return len(incoming.payload) + (headers.size if isinstance(headers, Headers) else 0)


class Puller:
    """The only reader of a consumer, with up to two batches requested or buffered.

    Pulls and batches are limited in bytes too: the server ends the connection of a client that asked for more
    than it can take, and a backlog of large messages must fit into memory.
    """

    def __init__(
        self, connection: Connection, consumer: ConsumerDefinition, batch: int, max_bytes: int = PULL_BYTES
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._batch = batch
        self._max_bytes = max(max_bytes, connection.client.max_payload + ENVELOPE_BYTES)
        self._deliveries = Deliveries(consumer.name)
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._outstanding = 0
        self._last_message_at = 0.0
        self._unanswered_since: float | None = None
        self._silent_seconds = 0.0  # while an answer was due
        self._not_before = 0.0
        self._reconnected = False
        self._failure: BusError | None = None
        self._inbox = self._connection.new_inbox()
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"

    async def __aenter__(self) -> "Puller":
        info = await self._info()
        if info["num_ack_pending"] > 0:
            # The server would redeliver these late and out of order.
            name, unacknowledged = self._consumer.name, info["num_ack_pending"]
            raise ConsumerGap(f"{name} holds {unacknowledged} unacknowledged: reset it first")
        self._deliveries.start_after(info["delivered"]["consumer_seq"])
        self._subscription = await self._connection.subscribe(self._inbox, self._on_message)
        self._remove_callback = self._connection.on_reconnect(self._on_reconnect)
        self._task = BackgroundTask(self._pull_until_failure, name=f"pull {self._consumer.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_callback()
        await self._task.close()
        await self._connection.unsubscribe(self._subscription)

    @property
    def buffered(self) -> int:
        """The number of messages that have arrived and are not taken yet."""
        return len(self._deliveries)

    async def next(self) -> list[Incoming]:
        """Wait for messages and return those that have arrived, in order, at most a batch (see PULL_BYTES).

        Raises ConsumerGap, ConsumerLost, and BusUnavailable when the server is silent for ten seconds.
        """
        while not self._deliveries:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        self._wanted.set()
        return self._deliveries.take(self._batch, self._max_bytes)

    async def ack_through(self, incoming: Incoming, *, timeout_seconds: float = ACK_DEADLINE_SECONDS) -> None:
        """Acknowledge everything up to this message, and wait until the server has confirmed it.

        Raises BusUnavailable.
        """
        try:
            await self._connection.request(incoming.ack_subject, b"", timeout_seconds=timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(f"the ack of position {incoming.position} was not confirmed") from error

    async def _info(self) -> dict[str, Any]:
        try:
            return await self._connection.api(f"CONSUMER.INFO.{self._consumer.stream}.{self._consumer.name}")
        except ApiError as error:
            raise ConsumerLost(f"{self._consumer.name}: {error}") from error

    async def _pull_until_failure(self) -> None:
        checked_at = time.monotonic()
        while self._failure is None:
            checked_at = self._check_silence(checked_at)
            if not self._connection.connected.is_set():
                await _wait(self._connection.connected, HEARTBEAT_SECONDS)
                continue
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            self._wanted.clear()
            try:
                if self._reconnected:
                    await self._resume()
                await self._request_batches()
            except TRANSIENT:
                self._on_no_answer()
            except BusError as failure:
                self._fail(failure)
            except Exception as error:
                log.exception("pull.error", extra={"consumer": self._consumer.name})
                self._fail(ConsumerLost(f"{self._consumer.name}: {error!r}"))
            else:
                await _wait(self._wanted, HEARTBEAT_SECONDS)

    def _check_silence(self, checked_at: float) -> float:
        """Fail the puller when the server has been silent for too long; return the time of this check."""
        now = time.monotonic()
        if self._outstanding > 0 or not self._connection.connected.is_set():
            # Limited, because this process may have been stopped in between.
            self._silent_seconds += min(now - checked_at, 2 * HEARTBEAT_SECONDS)
        else:
            self._silent_seconds = 0.0
        try:
            self._connection.check_permitted(self._next_subject, verb=PUBLISH)
        except NotPermitted as refusal:
            self._fail(refusal)
        if self._silent_seconds > UNANSWERED_SECONDS:
            self._fail(BusUnavailable(f"{self._consumer.name}: no answer for {UNANSWERED_SECONDS:g} s"))
        return now

    async def _resume(self) -> None:
        # Messages in transit when the connection broke are lost, but the server counts them as delivered.
        # Pulls that it may still hold are tied to the old inbox: a new inbox ignores their late deliveries.
        await self._connection.unsubscribe(self._subscription)
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(self._inbox, self._on_message)
        info = await self._info()
        self._deliveries.check_received(info["delivered"]["consumer_seq"])
        self._reconnected = False
        self._outstanding = 0

    async def _request_batches(self) -> None:
        if self._outstanding > 0 and time.monotonic() - self._last_message_at > STALL_SECONDS:
            await self._check_stalled()
        request = {
            "batch": self._batch,
            "max_bytes": self._max_bytes,
            "expires": int(EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        }
        body = json.dumps(request).encode()
        while self._wants_more():
            if self._outstanding == 0:
                self._last_message_at = time.monotonic()
            self._outstanding += self._batch
            await self._connection.publish(self._next_subject, body, reply=self._inbox)

    async def _check_stalled(self) -> None:
        # A slow connection is not stalled: what the server has sent before this answer arrives before it.
        latest = self._last_message_at
        await self._connection.round_trip()
        if self._last_message_at == latest:
            log.warning(
                "pull.stalled", extra={"consumer": self._consumer.name, "outstanding": self._outstanding}
            )
            self._outstanding = 0

    def _on_message(self, msg: Message) -> None:
        try:
            self._receive(msg)
        except Exception as error:  # noqa: BLE001 - raised by `next`: the message would be lost unseen
            self._fail(ConsumerGap(f"{self._consumer.name}: a delivery could not be read: {error!r}"))

    def _receive(self, msg: Message) -> None:
        self._last_message_at = time.monotonic()
        self._silent_seconds = 0.0
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
        self._reduce_outstanding(1)
        self._arrived.set()

    def _on_status(self, msg: Message) -> None:
        code = msg.status
        headers: Mapping[str, str] = msg.headers or {}
        description = headers.get("Description", "")
        if code == "100":  # idle heartbeat: the server still holds our pull
            return
        self._reduce_outstanding(int(headers.get("Nats-Pending-Messages", self._batch)))
        if code in ("404", "408"):  # the pull expired without further messages
            self._unanswered_since = None
        elif code == "503":
            self._on_no_answer()
        elif description in (COMPLETED, TOO_LARGE):
            self._unanswered_since = None
            if int(headers.get("Nats-Pending-Bytes", 0)) == self._max_bytes:  # it does not fit into any pull
                self._max_bytes *= 2
        elif code == "409" and "Deleted" not in description:
            log.info("pull.refused", extra={"consumer": self._consumer.name, "description": description})
            self._not_before = time.monotonic() + BACKOFF_SECONDS
        else:
            self._fail(ConsumerLost(f"{self._consumer.name}: {code} {description}"))

    def _reduce_outstanding(self, count: int) -> None:
        self._outstanding = max(0, self._outstanding - count)
        if self._outstanding + len(self._deliveries) <= self._batch and self._wants_more():
            self._wanted.set()

    def _wants_more(self) -> bool:
        deliveries = self._deliveries
        if self._outstanding + len(deliveries) > self._batch:
            return False
        # Large messages: one pull at a time, or those of all consumers are too much for the connection.
        return deliveries.bytes + self._outstanding * deliveries.mean_bytes <= self._max_bytes

    def _on_no_answer(self) -> None:
        # A server restart or a leader election causes this briefly, a deleted stream permanently.
        now = time.monotonic()
        self._unanswered_since = self._unanswered_since or now
        if now - self._unanswered_since > UNANSWERED_SECONDS:
            self._fail(ConsumerLost(f"{self._consumer.name}: no answer for {UNANSWERED_SECONDS:g} s"))
        self._not_before = now + BACKOFF_SECONDS

    def _on_reconnect(self) -> None:
        self._reconnected = True
        self._wanted.set()

    def _fail(self, failure: BusError) -> None:
        if self._failure is None:
            self._failure = failure
            log.warning("pull.failed", extra={"consumer": self._consumer.name, "error": str(failure)})
        self._arrived.set()
        self._wanted.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
