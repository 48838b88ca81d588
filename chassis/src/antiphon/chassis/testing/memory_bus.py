"""The bus in memory, for tests that need no broker; the suite of the real bus runs over it too."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from antiphon.chassis.bus.errors import (
    BusUnavailable,
    ConsumerLost,
    PayloadTooLarge,
    StreamReplaced,
    SubjectNotEmpty,
)
from antiphon.chassis.bus.heard import QueueSubscription
from antiphon.chassis.bus.messages import Ack, Incoming, Outgoing
from antiphon.chassis.bus.port import BATCH_LIMIT, PUBLISH_DEADLINE_SECONDS, Bucket, Bus, Subscription
from antiphon.chassis.testing.memory_bucket import InMemoryBucket
from antiphon.chassis.testing.memory_puller import Consumer, InMemoryPuller
from antiphon.chassis.testing.stored import Stored, matches
from antiphon.contracts.streams import CONSUMERS, SESSIONS, ConsumerDefinition

MAX_PAYLOAD_BYTES = 1 << 20


class InMemoryBus(Bus):
    """Keep what is published in memory; `away = True` makes every call raise BusUnavailable."""

    def __init__(self) -> None:
        self.stored = Stored()
        self.away = False
        self._arrived = asyncio.Condition()
        self._consumers = {definition.name: Consumer(definition) for definition in CONSUMERS}
        self._buckets: dict[str, InMemoryBucket] = {}
        self._listenings: set[tuple[str, QueueSubscription]] = set()

    async def publish(
        self,
        out: Outgoing,
        *,
        expect_empty: str | None = None,
        timeout_seconds: float = PUBLISH_DEADLINE_SECONDS,
    ) -> Ack:
        """Store a message and return where (see Bus.publish)."""
        self._must_be_there()
        if len(out.payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(f"{len(out.payload)} bytes; the broker accepts {MAX_PAYLOAD_BYTES}")
        if not any(matches(subject, out.subject) for subject in SESSIONS.subjects):
            raise BusUnavailable(f"no stream answers for {out.subject}")
        if expect_empty is not None:
            first = next(self.stored.matching(expect_empty), None)
            if first is not None and first.position != self.stored.position_of(out.message_id):
                raise SubjectNotEmpty(f"{expect_empty} already holds a message")
        return await self._store(out)

    async def publish_many(
        self, outs: Sequence[Outgoing], *, timeout_seconds: float = PUBLISH_DEADLINE_SECONDS
    ) -> list[Ack]:
        """Store messages in order (see Bus.publish_many)."""
        if len(outs) > BATCH_LIMIT:
            raise ValueError(f"{len(outs)} messages; an atomic batch takes {BATCH_LIMIT}")
        for out in outs:
            if len(out.payload) > MAX_PAYLOAD_BYTES:
                raise PayloadTooLarge(f"{len(out.payload)} bytes; the broker accepts {MAX_PAYLOAD_BYTES}")
        return [await self.publish(out, timeout_seconds=timeout_seconds) for out in outs]

    def pull(self, consumer: ConsumerDefinition, *, batch: int = 500) -> InMemoryPuller:
        """Open the one puller of a consumer (see Bus.pull)."""
        return InMemoryPuller(self.stored, self._consumer(consumer), batch, self._arrived)

    async def reset_consumer(self, consumer: ConsumerDefinition, start: int) -> None:
        """Make the consumer deliver again from `start` (see Bus.reset_consumer)."""
        self._must_be_there()
        if start > len(self.stored.messages) + 1:
            raise StreamReplaced(f"the stream ends at {len(self.stored.messages)}")
        self._consumer(consumer).reset(start)
        async with self._arrived:
            self._arrived.notify_all()

    async def read(self, subject_filter: str, after: int = 0) -> AsyncIterator[Incoming]:
        """Iterate over stored messages (see Bus.read)."""
        self._must_be_there()
        for incoming in self.stored.matching(subject_filter, after):
            yield incoming

    async def last(self, subject_filter: str) -> Incoming | None:
        """Return the newest stored message of a filter (see Bus.last)."""
        self._must_be_there()
        return self.stored.last(subject_filter)

    async def announce(self, subject: str, payload: bytes) -> None:
        """Say something that is not history (see Bus.announce)."""
        if not self.away:
            for subject_filter, listening in self._listenings:
                if matches(subject_filter, subject):
                    listening.put(subject, payload)

    async def subscribe(self, subject: str) -> Subscription:
        """Listen to what is announced from now on (see Bus.listen)."""
        self._must_be_there()
        listening = QueueSubscription(lambda gone: self._listenings.discard((subject, gone)))
        self._listenings.add((subject, listening))
        return listening

    async def ensure(self) -> None:
        """Find everything there (see Bus.ensure)."""
        self._must_be_there()

    async def verify(self) -> None:
        """Find everything as defined (see Bus.verify)."""
        self._must_be_there()

    async def ready(self, *, timeout_seconds: float = 2.0) -> None:
        """Be ready unless away (see Bus.ready)."""
        self._must_be_there()

    async def bucket(self, name: str) -> Bucket:
        """Open a bucket (see Bus.bucket)."""
        self._must_be_there()
        return self._buckets.setdefault(name, InMemoryBucket())

    async def close(self) -> None:
        """Do nothing (see Bus.close)."""

    def lose_announcements(self) -> None:
        """Behave towards all listeners as a reconnect does: something may have been missed."""
        for _, listening in self._listenings:
            listening.gap()

    def _consumer(self, definition: ConsumerDefinition) -> Consumer:
        try:
            return self._consumers[definition.name]
        except KeyError:
            raise ConsumerLost(f"no consumer is named {definition.name}") from None

    def _must_be_there(self) -> None:
        if self.away:
            raise BusUnavailable("the broker is away")

    async def _store(self, out: Outgoing) -> Ack:
        position = self.stored.position_of(out.message_id)
        if position is not None:
            return Ack(position, duplicate=True)
        incoming = self.stored.add(out, {"Nats-Msg-Id": out.message_id, **out.headers})
        async with self._arrived:
            self._arrived.notify_all()
        return Ack(incoming.position, duplicate=False)
