"""Fold the log into the shadow of a view, up to a position: pages are read, folded and written at a time."""

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from antiphon.chassis.log import Log
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, partition_of
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import Advance, folded
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.checkpoint import skips
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.bulk_write import bulk_write_of, write_bulk
from antiphon.persistence.rebuild.write_behind import WriteBehind, grouped, write_behind

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

PAGE = 4_000  # events that are read at once, at most
BATCH = 8_000  # events in one transaction: a row that changes several times is written once
BATCH_BYTES = 16 << 20
MAX_CACHED_BYTES = 128 << 20
STATEMENT_SECONDS = 120.0
COLLECTED_AFTER = (100_000, 50, 100)  # objects: those of a batch are no garbage; to look costs a third
ALL = frozenset(range(PARTITIONS))

OnProgress = Callable[[int, float], object]  # events folded since the last call, and the part that is done


class Fold:
    """The fold of some partitions into a shadow; the connection has its search path."""

    def __init__(
        self,
        projection: Projection,
        connection: "Connection",
        log: Log,
        epoch: int,
        *,
        partitions: Collection[int] = ALL,
        empty: bool = False,
    ) -> None:
        self.cursor = Cursor()
        self._epoch = epoch
        self._projection = projection
        self._connection = connection
        self._log = log
        self._partitions = partitions
        self._empty = empty
        self._cache = Cache(MAX_CACHED_BYTES)
        self._skips: frozenset[tuple[int, int]] = frozenset()

    async def begin(self) -> None:
        """Go on from what is committed in the shadow."""
        self.cursor = await shadow.positions(self._connection, self._projection)
        self._skips = await skips(self._connection, self._projection)
        self._cache = Cache(MAX_CACHED_BYTES, empty=self._empty)
        self._empty = False

    def behind(self, until: Cursor) -> int:
        """Return how many events of the log are left, about: its positions rise over all partitions."""
        return max(until.after(p) - self.cursor.after(p) for p in self._partitions)

    def done(self, until: Cursor) -> float:
        """Return which part of the log up to a cursor is folded."""
        width = sum(until.after(p) for p in self._partitions)
        return min(1.0, sum(self.cursor.after(p) for p in self._partitions) / width) if width else 1.0

    async def to(self, until: Cursor, on_progress: OnProgress) -> None:
        """Fold up to a cursor.

        Raises EventFailed, Fenced, DatabaseUnavailable, and any of POSTGRES_ERRORS; then `begin` again.
        """
        batches = self._log.read(
            self.cursor,
            until,
            types=self._projection.types,
            partitions=self._partitions,
            batch=PAGE,
            prefetch=True,
        )
        async with aclosing(batches), write_behind(self._connection) as behind:
            async for batch in grouped(batches, BATCH, BATCH_BYTES):
                await self._apply(batch.envelopes, batch.cursor, behind)
                on_progress(len(batch.envelopes), self.done(until))

    async def _apply(self, envelopes: Sequence[Envelope], cursor: Cursor, behind: WriteBehind) -> None:
        if self._skips:
            envelopes = [e for e in envelopes if (partition_of(e.subject), e.position) not in self._skips]
        moved = [p for p in self._partitions if cursor.after(p) > self.cursor.after(p)]
        if not moved:
            return
        advance = Advance(
            self._projection.name,
            moved,
            epochs=[self._epoch] * len(moved),
            expected=[self.cursor.after(p) for p in moved],
            reached=[cursor.after(p) for p in moved],
        )
        rows = await folded(self._projection, behind, envelopes, self._cache)
        bulk = bulk_write_of(self._projection, rows, advance)
        await behind.write(partial(write_bulk, bulk=bulk))
        rows.keep()
        self._cache.trim(envelopes)
        self.cursor = cursor
