"""Overlap the work of a build: pages are read, folded and written at the same time, each stage one ahead."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from antiphon.chassis.background import end_task
from antiphon.chassis.log import Batch
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection


class WriteBehind:
    """A connection that writes while the caller goes on; what it does next waits for that."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._writing: asyncio.Task[None] | None = None

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return the rows of a query, which sees what was written before. Raises what `write` raises."""
        await self.flush()
        found: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
        return found

    async def write(self, write: "Callable[[Connection], Coroutine[Any, Any, None]]") -> None:
        """Begin to write, once the write before has ended. Raises the error of that one."""
        await self.flush()
        self._writing = asyncio.create_task(write(self._connection), name="rebuild: write")

    async def flush(self) -> None:
        """Wait until all is written. Raises Fenced, and any of POSTGRES_ERRORS."""
        if (writing := self._writing) is not None:
            await writing
            self._writing = None

    async def close(self) -> None:
        """End a write that has not ended."""
        if self._writing is not None:
            await end_task(self._writing)


@asynccontextmanager
async def write_behind(connection: "Connection") -> AsyncIterator[WriteBehind]:
    """Write while the block runs; when it is left without an error, all is written."""
    behind = WriteBehind(connection)
    try:
        yield behind
        await behind.flush()
    finally:
        await behind.close()


async def grouped(batches: AsyncIterator[Batch], events: int, max_bytes: int) -> AsyncIterator[Batch]:
    """Join batches until there are so many events or bytes; the last group may be smaller."""
    envelopes: list[Envelope] = []
    size = 0
    reached: Cursor | None = None
    async for batch in batches:
        envelopes += batch.envelopes
        size += sum(len(envelope.data) for envelope in batch.envelopes)
        reached = batch.cursor
        if len(envelopes) >= events or size >= max_bytes:
            yield Batch(envelopes, reached)
            envelopes, size, reached = [], 0, None
    if reached is not None:
        yield Batch(envelopes, reached)
