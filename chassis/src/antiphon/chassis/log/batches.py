"""Batches of the event log: the pages after a cursor, each partition with its share, one read in advance."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import NamedTuple

from antiphon.chassis.background import end_task
from antiphon.chassis.database import Database
from antiphon.chassis.log.partitions import Filter, read_partitions
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope


class Batch(NamedTuple):
    """Committed envelopes, in order within each session, and the cursor after all that was looked at."""

    envelopes: list[Envelope]
    cursor: Cursor


class PartitionReader:
    """A cursor, and the partitions that may hold more after it."""

    def __init__(
        self, database: Database, cursor: Cursor, partitions: Collection[int], filter_: Filter, batch: int
    ) -> None:
        if batch < 1:
            raise ValueError(f"a batch of {batch} events holds none: ask for at least 1")
        self.cursor = cursor
        self.pending = sorted(partitions)
        self._database = database
        self.filter = filter_
        self._batch = batch

    def add(self, partitions: Collection[int]) -> None:
        """Read these partitions too."""
        self.pending += sorted(set(partitions).difference(self.pending))

    async def read(self, until: Cursor | None = None) -> Batch:
        """Return the next page, of the pending partitions. Raises DatabaseUnavailable."""
        # A batch smaller than their number takes them in turns. What is added from here on is read again.
        turn, self.pending = self.pending[: self._batch], self.pending[self._batch :]
        try:
            page = await read_partitions(
                self._database,
                {partition: self.cursor.after(partition) for partition in turn},
                self._batch // len(turn),
                until=until,
                filter_=self.filter,
            )
        except BaseException:
            self.add(turn)
            raise
        self.add(page.unfinished)
        self.cursor = self.cursor.moved(page.reached.items())
        return Batch(page.envelopes, self.cursor)


class Pages:
    """The pages that a function reads, one after the other."""

    def __init__(self, read: Callable[[], Awaitable[Batch]]) -> None:
        self._read = read
        self._reading: asyncio.Task[Batch] | None = None

    async def next(self) -> Batch:
        """Return the next page: the one that was begun, if any. Raises what the function raises."""
        if self._reading is None:
            return await self._read()
        try:
            return await self._reading
        finally:
            if self._reading.done():
                self._reading = None

    @property
    def begun(self) -> bool:
        """Whether the next page is being read."""
        return self._reading is not None

    def begin(self) -> None:
        """Read the next page while the caller works on this one."""
        self._reading = asyncio.ensure_future(self._read())
        self._reading.set_name("follow: read ahead")

    async def close(self) -> None:
        """End a read that was begun."""
        if self._reading is not None:
            await end_task(self._reading)


@asynccontextmanager
async def pages(read: Callable[[], Awaitable[Batch]]) -> AsyncIterator[Pages]:
    """Read pages while the block runs."""
    opened = Pages(read)
    try:
        yield opened
    finally:
        await opened.close()
