"""Replicas as their leases alone: one connection each, and work that only holds what it is given."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from antiphon.persistence.errors import Fenced
from antiphon.persistence.leases.connection import SESSION_SECONDS, Leases
from antiphon.persistence.leases.work import run_while_leased
from antiphon.persistence.readiness import ReadinessCheck

PARTITIONS = 16


class Holder:
    """A replica whose work holds its partitions until its lease ends, and counts what began and ended."""

    def __init__(self, dsn: str, session_seconds: float) -> None:
        self.leases = Leases(dsn, session_seconds=session_seconds)
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        self.held: dict[str, set[int]] = {}
        self.begun: dict[str, list[int]] = {}
        self.ended: dict[str, list[int]] = {}
        self.errors: list[Exception] = []  # the next calls of the work raise them
        self.finish_seconds = 0.0  # the work takes so long to end
        self.running = asyncio.create_task(self.leases.run())
        self.tasks: list[asyncio.Task[None]] = []

    def join(self, group: str, partitions: int = PARTITIONS) -> None:
        """Join a group and work on its partitions."""
        held = self.held[group] = set()
        begun, ended = self.begun.setdefault(group, []), self.ended.setdefault(group, [])

        async def work(partition: int, end: asyncio.Event) -> None:
            begun.append(partition)
            if self.errors:
                raise self.errors.pop(0)
            held.add(partition)
            try:
                await end.wait()
                await asyncio.sleep(self.finish_seconds)
                ended.append(partition)
            finally:
                held.discard(partition)

        self.tasks.append(
            asyncio.create_task(
                run_while_leased(self.leases, group, work, self.readiness, self.stop, partitions=partitions)
            )
        )

    def fence(self, times: int = 1) -> None:
        """Fence the next calls of the work."""
        self.errors += [Fenced("taken over")] * times

    async def leave(self) -> None:
        """Stop gracefully: end the work, release the locks, and close the connection."""
        self.stop.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks), 60)
        await self.die()

    async def die(self) -> None:
        """End at once, without a word to the others, as after kill -9."""
        for task in (self.running, *self.tasks):
            task.cancel()
        await asyncio.gather(self.running, *self.tasks, return_exceptions=True)


NewHolder = Callable[..., Holder]


@pytest.fixture
async def holder(postgres_dsn: str) -> AsyncIterator[NewHolder]:
    """Start a replica that joins a group; all are gone at the end of the test."""
    made: list[Holder] = []

    def make(
        *groups: str, partitions: int = PARTITIONS, session_seconds: float = SESSION_SECONDS, dsn: str = ""
    ) -> Holder:
        made.append(Holder(dsn or postgres_dsn, session_seconds))
        for group in groups or ("work",):
            made[-1].join(group, partitions)
        return made[-1]

    yield make
    for each in made:
        await each.die()


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()
