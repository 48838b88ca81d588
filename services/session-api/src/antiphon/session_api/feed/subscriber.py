"""A stream of a tenant's events: from its cursor through the log, then with the hub's other streams."""

import asyncio
from collections.abc import Sequence

import structlog

from antiphon.chassis.database import DatabaseUnavailable
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.subjects import PARTITIONS
from antiphon.session_api.feed.blocks import Block, Entry, blocks, id_line
from antiphon.session_api.feed.filters import EventFilter
from antiphon.session_api.feed.hub import Hub, Hubs

# What a stream holds whose client takes nothing: one step.
STEP = 500  # events
STEP_BYTES = 128 << 10
OUTAGE_POLL_SECONDS = 1.0  # while the database is unavailable
ALL_PARTITIONS = range(PARTITIONS)

log = structlog.get_logger(__name__)


class Subscriber:
    """The events of a tenant after `cursor` that pass a filter, as bytes of a stream, without gaps or end."""

    def __init__(
        self, hubs: Hubs, hub: Hub, wanted: EventFilter, cursor: Cursor, woken: asyncio.Event
    ) -> None:
        """Start after a cursor; `woken` is set by the hub, and by what ends the stream."""
        self.cursor = cursor
        self._reader = hubs.reader
        self._log_id = hubs.log_id
        self._steps = hubs.steps
        self._hub = hub
        self._wanted = wanted
        self._woken = woken
        self._number: int | None = None  # of the hub's next block; None is: behind it, in the log
        self._unavailable = False

    @property
    def behind(self) -> bool:
        """Whether `next` has more already, as far as is known."""
        return self._number is None or self._number < self._hub.end

    @property
    def id_line(self) -> bytes:
        """The line that makes a stream resume after all that was looked through."""
        return id_line(self.cursor, self._log_id)

    async def next(self, timeout_seconds: float) -> bytes:
        """Return the next events; none if none passed the filter, after the timeout, or when woken.

        An outage of the database is no error: there are no events until it is over.
        """
        self._join()
        try:
            if self._number is None:
                found = await self._read(timeout_seconds)
            elif self._number < self._hub.end:
                found = await self._take(self._number)
            else:
                return await self._wait(timeout_seconds)
        except DatabaseUnavailable as error:
            if not self._unavailable:
                log.warning("feed.database_unavailable", tenant=self._hub.tenant, error=str(error))
            self._unavailable = True
            return await self._wait(min(timeout_seconds, OUTAGE_POLL_SECONDS))
        self._unavailable = False
        return found

    def _join(self) -> None:
        """Take from the hub if it has all events after the cursor, else from the log."""
        hub = self._hub
        if self._number is not None and self._number < hub.first:
            self._number = None
        if self._number is None and hub.floor is not None and self.cursor.reaches(hub.floor, ALL_PARTITIONS):
            self._number = hub.first

    async def _wait(self, timeout_seconds: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()
        return b""

    async def _read(self, timeout_seconds: float) -> bytes:
        until = self._hub.cursor
        if until is None:
            return await self._wait(timeout_seconds)
        async with self._steps.of(self._hub.tenant):
            found = await self._reader.step(
                self._hub.tenant, self._wanted, self.cursor, until, limit=STEP, max_bytes=STEP_BYTES
            )
        chunk = b"".join([block.chunk for block in blocks(self.cursor, found, self._log_id)])
        self.cursor = found.cursor
        return chunk

    async def _take(self, number: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        for block in self._hub.since(number):
            try:
                chunk = await self._of_block(block)
            except DatabaseUnavailable:
                if size:
                    break
                raise
            number += 1
            self._number = number
            chunks.append(chunk)
            size += len(chunk)
            if size >= STEP_BYTES:
                break
        newest = self._hub.cursor
        if number == self._hub.end and newest is not None and newest is not self.cursor:
            self.cursor = self.cursor.moved(newest.positions.items())
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _of_block(self, block: Block) -> bytes:
        """Return what the stream gets of a block, and move the cursor past it."""
        cursor = self.cursor
        if block.before is cursor or block.before.reaches(cursor, ALL_PARTITIONS):
            chunk = block.of(await self._passing(block.entries))
            self.cursor = block.after
            return chunk
        # The stream has read some of these events from the log: the ids of the others are its own.
        fresh = [entry for entry in block.entries if entry.position > cursor.after(entry.partition)]
        chunk = block.renumbered(await self._passing(fresh), cursor, self._log_id)
        self.cursor = cursor.moved(block.after.positions.items())
        return chunk

    async def _passing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return await self._reader.flows.passing(self._hub.tenant, self._wanted, entries)
