"""The bus over NATS JetStream: each verb's work is in its own module."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from antiphon.chassis.bus import batch as batches
from antiphon.chassis.bus import definitions
from antiphon.chassis.bus import publish as single
from antiphon.chassis.bus import read as reading
from antiphon.chassis.bus.buckets import NatsBucket
from antiphon.chassis.bus.connection import TRANSIENT, ApiError, Connection
from antiphon.chassis.bus.errors import BusUnavailable
from antiphon.chassis.bus.listening import Listeners
from antiphon.chassis.bus.messages import Ack, Incoming, Outgoing
from antiphon.chassis.bus.port import PUBLISH_DEADLINE_SECONDS, Bucket, Bus, Puller, Subscription
from antiphon.chassis.bus.pull import NatsPuller
from antiphon.contracts.streams import SESSIONS, ConsumerDefinition

log = structlog.get_logger(__name__)


class NatsBus(Bus):
    """Speak to one NATS server or cluster."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._listeners = Listeners(connection)

    @classmethod
    async def open(cls, url: str, name: str, connect_timeout_seconds: float) -> "NatsBus":
        """Connect (see Bus.connect)."""
        connection = Connection(url, name)
        await connection.open(connect_timeout_seconds)
        return cls(connection)

    async def publish(
        self,
        out: Outgoing,
        *,
        expect_empty: str | None = None,
        timeout_seconds: float = PUBLISH_DEADLINE_SECONDS,
    ) -> Ack:
        """Store a message and return where (see Bus.publish)."""
        return await single.publish(self.connection, out, expect_empty, timeout_seconds)

    async def publish_many(
        self, outs: Sequence[Outgoing], *, timeout_seconds: float = PUBLISH_DEADLINE_SECONDS
    ) -> list[Ack]:
        """Store messages in order (see Bus.publish_many)."""
        return await batches.publish_many(self.connection, outs, timeout_seconds)

    def pull(self, consumer: ConsumerDefinition, *, batch: int = 500) -> AbstractAsyncContextManager[Puller]:
        """Open the one puller of a consumer (see Bus.pull)."""
        return NatsPuller(self.connection, consumer, batch)

    async def reset_consumer(self, consumer: ConsumerDefinition, start: int) -> None:
        """Make the consumer deliver again from `start` (see Bus.reset_consumer)."""
        await definitions.reset_consumer(self.connection, consumer, start)

    def read(self, subject_filter: str, after: int = 0) -> AsyncIterator[Incoming]:
        """Iterate over stored messages (see Bus.read)."""
        return reading.read(self.connection, SESSIONS.name, subject_filter, after)

    async def last(self, subject_filter: str) -> Incoming | None:
        """Return the newest stored message of a filter (see Bus.last)."""
        return await reading.last(self.connection, SESSIONS.name, subject_filter)

    async def announce(self, subject: str, payload: bytes) -> None:
        """Say something that is not history (see Bus.announce)."""
        if not self.connection.connected.is_set():
            return  # whoever listens hears of the broken connection, and looks for itself
        try:
            await self.connection.publish(subject, payload)
        except TRANSIENT as error:
            log.warning("announce.failed", subject=subject, error=repr(error))

    async def subscribe(self, subject: str) -> Subscription:
        """Listen to what is announced from now on (see Bus.listen)."""
        return await self._listeners.subscribe(subject)

    async def ensure(self) -> None:
        """Make what the contract defines (see Bus.ensure)."""
        await definitions.ensure(self.connection)

    async def verify(self) -> None:
        """Check what the contract defines (see Bus.verify)."""
        await definitions.verify(self.connection)

    async def ready(self, *, timeout_seconds: float = 2.0) -> None:
        """Prove by a round trip that the broker stores and answers (see Bus.ready)."""
        try:
            await self.connection.api(f"STREAM.INFO.{SESSIONS.name}", timeout_seconds=timeout_seconds)
        except ApiError as error:
            raise BusUnavailable(f"stream {SESSIONS.name}: {error}") from error

    async def bucket(self, name: str) -> Bucket:
        """Open a bucket (see Bus.bucket)."""
        return NatsBucket(self.connection, name)

    async def close(self) -> None:
        """Send what is still to be sent and disconnect (see Bus.close)."""
        await self.connection.close()
