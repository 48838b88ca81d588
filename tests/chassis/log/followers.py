"""Followers in the background with different filters, and the check that each got what it asked for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from antiphon.chassis.background import end_task
from antiphon.chassis.log import Log
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of

DEADLINE_SECONDS = 60.0
# What a follower asks for, as the arguments of Log.follow.
CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"types": ["turn.saved"]},
    {"tenant": "other"},
    {"tenant": "other", "types": ["turn.saved", "session.closed"], "prefetch": True},
    {"partitions": range(0, 16, 2), "batch": 5, "prefetch": True},
)


@dataclass
class Follower:
    """What one follower received."""

    chosen: dict[str, Any]
    received: list[Envelope] = field(default_factory=list)
    cursor: Cursor = field(default_factory=Cursor)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, log: Log, cursor: Cursor) -> None:
        async with aclosing(log.follow(cursor, **self.chosen)) as following:
            async for envelopes, cursor_after in following:
                self.received += envelopes
                self.cursor = cursor_after
                self.arrived.set()

    def wants(self, envelope: Envelope) -> bool:
        types, tenant = self.chosen.get("types"), self.chosen.get("tenant")
        return (
            (types is None or envelope.type in types)
            and (tenant is None or envelope.tenant == tenant)
            and partition_of(envelope.subject) in self.chosen.get("partitions", range(16))
        )

    async def check(self, committed: Sequence[Envelope]) -> None:
        """Wait until all that is wanted has arrived: each once, in order within its session."""
        expected: dict[str, list[object]] = {}
        for envelope in committed:
            if self.wants(envelope):
                expected.setdefault(envelope.subject, []).append(envelope.sequence)
        count = sum(map(len, expected.values()))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.received) < count:
                self.arrived.clear()
                await self.arrived.wait()
        found: dict[str, list[object]] = {}
        for envelope in self.received:
            found.setdefault(envelope.subject, []).append(envelope.sequence)
        assert found == expected, self.chosen

    async def passes(self, head: Cursor) -> None:
        """Wait until the cursor is past all that is committed, wanted or not."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.cursor.reaches(head, self.chosen.get("partitions", range(16))):
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def followers(log: Log, cursor: Cursor) -> AsyncIterator[list[Follower]]:
    """Follow the log with every choice while the block runs; an error of one is raised."""
    async with AsyncExitStack() as stack:
        started = [Follower(chosen) for chosen in CHOICES]
        tasks = [asyncio.create_task(follower.run(log, cursor)) for follower in started]
        for task in tasks:
            stack.push_async_callback(end_task, task)
        yield started
        for task in tasks:
            if task.done():
                await task
