"""The bus: publish, pull, read, announce and subscribe over NATS JetStream."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from antiphon.chassis.bus import admin, publish, read, requests, stored
from antiphon.chassis.bus.connection import CONNECT_DEADLINE_SECONDS, TRANSIENT, Connection
from antiphon.chassis.bus.consume import Puller
from antiphon.chassis.bus.errors import ApiError, BusUnavailable, DefinitionMissing, PayloadTooLarge
from antiphon.chassis.bus.kv import Bucket
from antiphon.chassis.bus.messages import Ack, Incoming, Outgoing
from antiphon.chassis.bus.publish import PUBLISH_DEADLINE_SECONDS
from antiphon.chassis.bus.publish_probe import PublishProbe
from antiphon.chassis.bus.requests import REQUEST_DEADLINE_SECONDS, Handler, Responder
from antiphon.chassis.bus.stored import StreamState
from antiphon.chassis.bus.subscribe import QUEUE_BYTES, Subscription, Subscriptions
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.retry import retrying
from antiphon.contracts.streams import BUCKETS, SESSIONS, BucketDefinition, ConsumerDefinition

log = get_logger(__name__)

PULL_BATCH = 500
READY_DEADLINE_SECONDS = 2.0
ADMIN_DEADLINE_SECONDS = 60.0  # for all streams, consumers and buckets together
NOT_ANNOUNCED: tuple[type[Exception], ...] = (*TRANSIENT, PayloadTooLarge)
VERIFY_SECONDS = 15.0  # at the start of a service: for persistence, which creates the streams when it starts


class Bus:
    """The only access to the broker. Every method but `announce` raises BusUnavailable after its deadline."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._subscriptions = Subscriptions(connection)
        self._probe = PublishProbe(connection)

    @classmethod
    async def connect(
        cls,
        access: str | NatsAccess,
        *,
        name: str = "antiphon",
        connect_timeout_seconds: float = CONNECT_DEADLINE_SECONDS,
    ) -> "Bus":
        """Connect to a NATS server or cluster; once connected, the bus reconnects without limit.

        `access` may be just the URL. Raises BusUnavailable when the first connect does not succeed in time,
        ValueError for a wrong URL or a file without certificate or key.
        """
        connection = Connection(NatsAccess(url=access) if isinstance(access, str) else access, name)
        await connection.open(connect_timeout_seconds)
        return cls(connection)

    async def publish(
        self,
        out: Outgoing,
        *,
        expect_empty: str | None = None,
        timeout_seconds: float = PUBLISH_DEADLINE_SECONDS,
    ) -> Ack:
        """Store a message and return its position; `expect_empty` is a subject filter that must be empty.

        Raises SubjectNotEmpty, PayloadTooLarge, StreamFull, InvalidSubject.
        """
        return await publish.publish(self.connection, out, expect_empty, timeout_seconds)

    async def publish_many(
        self, outs: Sequence[Outgoing], *, timeout_seconds: float = PUBLISH_DEADLINE_SECONDS
    ) -> list[Ack]:
        """Store messages in order, as one atomic batch unless one of them is stored already.

        Raises PayloadTooLarge, StreamFull, InvalidSubject.
        """
        return await publish.publish_many(self.connection, outs, timeout_seconds)

    def pull(self, consumer: ConsumerDefinition, *, batch: int = PULL_BATCH) -> Puller:
        """Return the one puller of a consumer, an async context manager.

        Entering it raises ConsumerGap when the consumer holds unacknowledged deliveries.
        """
        return Puller(self.connection, consumer, batch)

    async def reset_consumer(self, consumer: ConsumerDefinition, start: int) -> None:
        """Make the consumer deliver again from position `start`, acknowledged or not.

        Raises ConsumerLost, StreamReplaced.
        """
        await admin.reset_consumer(self.connection, consumer, start)

    def read(self, subject_filter: str, after: int = 0) -> AsyncIterator[Incoming]:
        """Iterate over the stored messages of a filter after a position, up to the current end.

        Raises HistoryGap.
        """
        return read.read_all(self.connection, SESSIONS.name, subject_filter, after)

    def all_messages(self) -> AsyncIterator[Incoming]:
        """Iterate over all messages of the stream of events, which must take no others meanwhile.

        Raises StreamMissing, and HistoryGap when the stream has more than was read.
        """
        return stored.all_messages(self.connection, SESSIONS.name)

    async def last(self, subject_filter: str) -> Incoming | None:
        """Return the newest stored message of a filter."""
        request = {"last_by_subj": subject_filter}
        return await stored.message_at(self.connection, SESSIONS.name, request)

    async def first_after(self, subject_filter: str, position: int) -> Incoming | None:
        """Return the first stored message of a filter after a position."""
        request = {"next_by_subj": subject_filter, "seq": position + 1}
        return await stored.message_at(self.connection, SESSIONS.name, request)

    @property
    def max_payload(self) -> int:
        """The largest payload in bytes that the broker accepts."""
        return self.connection.client.max_payload

    async def announce(self, subject: str, payload: bytes) -> None:
        """Send a message to the current subscribers; it is not stored, and an outage raises nothing.

        Raises InvalidSubject.
        """
        if not self.connection.connected.is_set():
            return  # subscribers notice the broken connection and read the log
        try:
            await self.connection.publish(subject, payload)
        except NOT_ANNOUNCED as error:
            log.warning("announce.failed", extra={"subject": subject, "error": repr(error)})

    async def subscribe(self, subject: str, *, max_bytes: int = QUEUE_BYTES) -> Subscription:
        """Subscribe to the announcements of a subject from now on; the queue holds about `max_bytes` of them.

        Raises InvalidSubject.
        """
        return await self._subscriptions.subscribe(subject, max_bytes)

    async def request(
        self, subject: str, payload: bytes, *, timeout_seconds: float = REQUEST_DEADLINE_SECONDS
    ) -> bytes:
        """Ask one of those that serve a subject, and return the answer; nothing is stored.

        Raises NoResponder, PayloadTooLarge, InvalidSubject.
        """
        return await requests.request(self.connection, subject, payload, timeout_seconds)

    async def serve(
        self, subject: str, handler: Handler, *, group: str, deadline_seconds: float
    ) -> Responder:
        """Answer the requests on a subject until the responder is closed, together with others of a group.

        `deadline_seconds` is for one answer, and for a request to wait. Raises InvalidSubject.
        """
        responder = Responder(self.connection, subject, handler, deadline_seconds)
        await responder.start(group)
        return responder

    async def ensure(
        self, *, create_streams: bool = True, replicas: int | None = None, max_bytes: int | None = None
    ) -> None:
        """Create the streams, consumers and buckets of the contract that do not exist yet, and verify all.

        With `create_streams=False` a missing stream is an error: what was stored in it may be unread.
        New streams and buckets get one replica, or as many as are given, which others must have too. With
        `max_bytes` the stream of events, new or not, may hold so much; a smaller one keeps what it has.
        Raises DefinitionMismatch, StreamMissing, StorageTooSmall.
        """
        async with _deadline("ensure"):
            await admin.ensure(
                self.connection, create_streams=create_streams, replicas=replicas, max_bytes=max_bytes
            )

    async def ensure_buckets(
        self, replicas: int | None = None, buckets: Iterable[BucketDefinition] = BUCKETS
    ) -> None:
        """Create the buckets of the contract, or those given, that do not exist yet, and verify them.

        Raises DefinitionMismatch.
        """
        async with _deadline("ensure_buckets"):
            await admin.ensure_buckets(self.connection, replicas, buckets)

    async def ensure_consumer(self, consumer: ConsumerDefinition) -> None:
        """Create a consumer that does not exist, never its stream.

        Raises StreamMissing.
        """
        async with _deadline("ensure_consumer"):
            await admin.create_consumers(self.connection, [consumer])

    async def verify(
        self,
        *,
        wait_seconds: float = 0.0,
        replicas: int | None = None,
        buckets: Iterable[BucketDefinition] = BUCKETS,
    ) -> None:
        """Check that the streams, consumers and buckets of the contract exist as defined.

        Waits for those that do not exist: another service may be about to create them. The number of
        replicas is checked only when it is given, and of the buckets only those that are given.
        Raises DefinitionMismatch.
        """
        retry = retrying(DefinitionMissing, timeout_seconds=wait_seconds)
        await retry(self._verify, replicas, tuple(buckets))

    async def _verify(self, replicas: int | None, buckets: Iterable[BucketDefinition]) -> None:
        async with _deadline("verify"):
            await admin.verify(self.connection, replicas, buckets)

    async def stream_state(self) -> StreamState | None:
        """Return the state of the stream of events, or None if it does not exist."""
        return await stored.stream_state(self.connection, SESSIONS.name)

    async def has_bucket(self, name: str) -> bool:
        """Return whether a bucket exists."""
        return await stored.stream_state(self.connection, f"KV_{name}") is not None

    async def payload_at(self, position: int) -> bytes | None:
        """Return the payload of the stored message at a position, or None if there is none."""
        return await stored.payload_at(self.connection, SESSIONS.name, position)

    async def delivered_all(self, consumer: ConsumerDefinition, position: int) -> bool:
        """Return whether a consumer has delivered all that it has, none of it after a position."""
        return await stored.delivered_all(self.connection, consumer.stream, consumer.name, position)

    async def undelivered(self, consumer: ConsumerDefinition) -> int:
        """Return how many messages a consumer has yet to deliver."""
        return await stored.undelivered(self.connection, consumer.stream, consumer.name)

    async def unacknowledged(self, consumer: ConsumerDefinition) -> int | None:
        """Return how many messages a consumer has to deliver or to get an ack of; None if it is missing."""
        return await stored.unacknowledged(self.connection, consumer.stream, consumer.name)

    async def ready(self, *, timeout_seconds: float = READY_DEADLINE_SECONDS) -> None:
        """Check by a round trip that the broker answers and has the stream of events.

        Raises BusUnavailable.
        """
        try:
            await self.connection.api(f"STREAM.INFO.{SESSIONS.name}", timeout_seconds=timeout_seconds)
        except ApiError as error:
            raise BusUnavailable(f"stream {SESSIONS.name}: {error}") from error

    async def publishable(self) -> None:
        """Check that events can be stored: some were lately, or a message is; for `Health.add`.

        Raises BusUnavailable, StreamFull.
        """
        await self._probe.check()

    async def bucket(self, name: str) -> Bucket:
        """Open a bucket."""
        return Bucket(self.connection, name)

    async def close(self) -> None:
        """Flush and disconnect, within a few seconds."""
        await self.connection.close()


@asynccontextmanager
async def _deadline(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ADMIN_DEADLINE_SECONDS):
            yield
    except TimeoutError as error:
        raise BusUnavailable(f"{what} took longer than {ADMIN_DEADLINE_SECONDS:g} s") from error
