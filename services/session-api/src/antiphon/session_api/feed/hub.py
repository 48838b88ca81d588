"""Live readers of the log, one for each tenant with open streams; its subscribers share the newest blocks."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import islice

import structlog

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.database import DatabaseUnavailable
from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.session_api.feed.blocks import Block, blocks
from antiphon.session_api.feed.reading import FeedReader, in_order
from antiphon.session_api.feed.steps import Steps

HUB_BYTES = 4 << 20  # of the blocks of one tenant
ALL_BYTES = 64 << 20  # of those of all tenants
STEPS = 4  # of streams and exports at the same time: the pool's other connections are for requests
STEPS_OF_TENANT = 3  # so that one is left for the others

log = structlog.get_logger(__name__)


class Hub:
    """The newest events of a tenant: numbered blocks, without a gap from the cursor `floor` to `cursor`.

    Both are None until the log could be read.
    """

    def __init__(self, hubs: "Hubs", tenant: str) -> None:
        self.tenant = tenant
        self.cursor: Cursor | None = None
        self.floor: Cursor | None = None
        self.first = 0  # the number of the oldest block
        self.bytes = 0
        self.wakes: set[Callable[[], None]] = set()  # of the subscribers
        self._hubs = hubs
        self._blocks: deque[Block] = deque()
        self.task = BackgroundTask(self._run, name=f"feed: {tenant}")

    @property
    def end(self) -> int:
        """The number of the next block."""
        return self.first + len(self._blocks)

    def since(self, number: int) -> Sequence[Block]:
        """Return the blocks from a number on, which is not below `first`."""
        return list(islice(self._blocks, number - self.first, None))

    def clear(self) -> None:
        """Drop all blocks."""
        while self._blocks:
            self.drop_oldest()

    async def _run(self) -> None:
        """Read what is committed, without end; called again after a failure, it goes on where it was."""
        reader, log_id = self._hubs.reader, self._hubs.log_id
        if self.cursor is None:
            retry = retrying(DatabaseUnavailable, on_retry=_log_first_failure)
            self.cursor = self.floor = await retry(reader.log.head)
            self._wake()
        async with aclosing(reader.log.follow(self.cursor, tenant=self.tenant)) as batches:
            async for batch in batches:
                reader.flows.learn(batch.envelopes)
                for block in blocks(self.cursor, in_order(batch), log_id):
                    self._append(block)
                self.cursor = batch.cursor
                if batch.envelopes:
                    self._wake()

    def _append(self, block: Block) -> None:
        self._blocks.append(block)
        self.cursor = block.after
        self.bytes += block.size
        self._hubs.bytes += block.size
        while self._blocks and self.bytes > self._hubs.hub_bytes:
            self.drop_oldest()
        self._hubs.limit_bytes()

    def drop_oldest(self) -> None:
        """Drop the oldest block; subscribers that have not taken it read it from the log."""
        block = self._blocks.popleft()
        self.first += 1
        self.floor = block.after
        self.bytes -= block.size
        self._hubs.bytes -= block.size

    def _wake(self) -> None:
        for wake in tuple(self.wakes):
            wake()


class Hubs:
    """The hubs of a process: each begins with the first subscriber of its tenant and ends with the last."""

    def __init__(
        self, reader: FeedReader, log_id: str, *, hub_bytes: int = HUB_BYTES, all_bytes: int = ALL_BYTES
    ) -> None:
        self.reader = reader
        self.log_id = log_id
        self.hub_bytes = hub_bytes
        self.all_bytes = all_bytes
        self.bytes = 0  # of the blocks of all hubs
        self.steps = Steps(STEPS, STEPS_OF_TENANT)
        self._hubs: dict[str, Hub] = {}

    def __len__(self) -> int:
        return len(self._hubs)

    @asynccontextmanager
    async def subscribed(self, tenant: str, wake: Callable[[], None]) -> AsyncIterator[Hub]:
        """Call `wake` after each new block while the block of code runs; it gets the hub of the tenant."""
        hub = self._hubs.get(tenant)
        if hub is None:
            hub = self._hubs[tenant] = Hub(self, tenant)
        hub.wakes.add(wake)
        try:
            yield hub
        finally:
            hub.wakes.discard(wake)
            if not hub.wakes:
                if self._hubs.get(tenant) is hub:
                    del self._hubs[tenant]
                await self._end(hub)

    def limit_bytes(self) -> None:
        """Drop blocks of the largest hub, while the blocks of all are too many."""
        while self.bytes > self.all_bytes:
            largest = max(self._hubs.values(), key=lambda hub: hub.bytes, default=None)
            if largest is None or not largest.bytes:  # what is left belongs to a hub that ends
                return
            largest.drop_oldest()

    async def ready(self) -> None:
        """Raise BackgroundTaskFailed while a hub fails; for `Health.add`."""
        for hub in tuple(self._hubs.values()):
            hub.task.check()

    async def close(self) -> None:
        """End all hubs."""
        while self._hubs:
            await self._end(self._hubs.popitem()[1])

    async def _end(self, hub: Hub) -> None:
        await hub.task.close()
        hub.clear()


def _log_first_failure(error: BaseException, attempt: int) -> None:
    if attempt == 1:
        log.warning("feed.database_unavailable", error=str(error))
