"""A consumer in memory: what was delivered, what was acknowledged, and one puller at a time."""

import asyncio
from dataclasses import dataclass

import msgspec

from antiphon.chassis.bus.errors import ConsumerGap
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.bus.port import Puller
from antiphon.chassis.testing.stored import Stored
from antiphon.contracts.streams import ConsumerDefinition


@dataclass(slots=True)
class Consumer:
    """Remember how far a consumer has delivered and was acknowledged."""

    definition: ConsumerDefinition
    delivered_sequence: int = 0
    delivered_position: int = 0
    floor_position: int = 0
    resets: int = 0

    def reset(self, start: int) -> None:
        """Deliver again from a position."""
        self.delivered_sequence = 0
        self.delivered_position = self.floor_position = max(start, 1) - 1
        self.resets += 1


class InMemoryPuller(Puller):
    """Deliver a consumer's messages as they are stored."""

    def __init__(self, stored: Stored, consumer: Consumer, batch: int, arrived: asyncio.Condition) -> None:
        self._stored = stored
        self._consumer = consumer
        self._batch = batch
        self._arrived = arrived

    async def __aenter__(self) -> "InMemoryPuller":
        if self._consumer.delivered_position > self._consumer.floor_position:
            raise ConsumerGap(
                f"{self._consumer.definition.name} holds unacknowledged messages: reset it first"
            )
        self._resets = self._consumer.resets
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def next(self) -> list[Incoming]:
        """Wait for messages and return at once with those that have arrived (see Puller.next)."""
        async with self._arrived:
            while not (taken := self._take()):
                await self._arrived.wait()
        return taken

    async def ack_through(self, incoming: Incoming, *, timeout_seconds: float = 5.0) -> None:
        """Acknowledge everything up to this message (see Puller.ack_through)."""
        if self._resets == self._consumer.resets:
            self._consumer.floor_position = max(self._consumer.floor_position, incoming.position)

    def _take(self) -> list[Incoming]:
        consumer = self._consumer
        if consumer.resets != self._resets:
            raise ConsumerGap(f"{consumer.definition.name} was reset while it was pulled")
        taken: list[Incoming] = []
        for incoming in self._stored.matching(
            consumer.definition.filter_subject, consumer.delivered_position
        ):
            if len(taken) == self._batch:
                break
            consumer.delivered_sequence += 1
            consumer.delivered_position = incoming.position
            taken.append(msgspec.structs.replace(incoming, consumer_sequence=consumer.delivered_sequence))
        return taken
