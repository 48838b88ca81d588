"""Rows of a view that were read or written, kept for the events that follow, in a bounded space."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from antiphon.contracts.envelope import Envelope
from antiphon.persistence.projection.tables import Key, Row, ViewTable

MAX_CACHED_BYTES = 32 << 20  # of rows that were read, and of the events folded into them since
ROW_BYTES = 1_000  # of a row besides its texts, about
MAX_DROPPED = 500_000  # sessions whose rows were dropped and are remembered for that: about 60 MiB


class NotLoaded(Exception):
    """A row is needed that has not been read: the batch is folded again once it has been."""


class CachedTable:
    """The cached rows of one table, None for a row that does not exist.

    Of a table that was empty, no row exists but those cached and some of sessions whose rows were dropped.
    """

    __slots__ = ("_dropped", "rows")

    def __init__(self, *, empty: bool) -> None:
        self.rows: dict[Key, Row | None] = {}
        self._dropped: set[Any] | None = set() if empty else None  # the first columns of keys

    def get(self, key: Key) -> Row | None:
        """Return a row, or None if it does not exist. Raises NotLoaded."""
        row = self.rows.get(key)
        if row is None and not self.knows(key):
            raise NotLoaded
        return row

    def knows(self, key: Key) -> bool:
        """Return whether a row need not be read."""
        return key in self.rows or (self._dropped is not None and key[0] not in self._dropped)

    def drop(self, key: Key) -> None:
        """Forget a row, which must be read before it is needed again."""
        self.rows.pop(key, None)
        if self._dropped is not None:
            self._dropped.add(key[0])

    def drop_all(self) -> None:
        """Forget all rows."""
        if self._dropped is not None:
            self._dropped.update(key[0] for key in self.rows)
            if len(self._dropped) > MAX_DROPPED:
                self._dropped = None
        self.rows = {}


class Cache:
    """The cached rows of a view, bounded in bytes.

    `empty` says that the view has no rows yet: what was never in the cache need not be read.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES, *, empty: bool = False) -> None:
        self.bytes = 0  # at most: an event counts in full, however little of it its row keeps
        self._max_bytes = max_bytes
        self._counted = 0  # rows
        self._empty = empty
        self._tables: dict[ViewTable, CachedTable] = {}

    def of(self, table: ViewTable) -> CachedTable:
        """Return the cached rows of a table."""
        cached = self._tables.get(table)
        if cached is None:
            cached = self._tables[table] = CachedTable(empty=self._empty)
        return cached

    def __len__(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    def put(self, table: ViewTable, keys: Iterable[Key], records: Iterable[Mapping[str, Any]]) -> None:
        """Keep what was read: the rows of these keys that exist; their texts count."""
        rows = self.of(table).rows
        for key in keys:
            rows[key] = None
        for record in records:
            rows[tuple(record[name] for name in table.key)] = table.loaded(record)
            self.bytes += sum(len(v) for v in record.values() if isinstance(v, str | bytes))

    def trim(self, envelopes: Sequence[Envelope]) -> None:
        """Count the new rows, and the events that they were made of; drop all if there are too many."""
        self.bytes += ROW_BYTES * max(0, len(self) - self._counted)
        self.bytes += sum(len(envelope.data) for envelope in envelopes)
        if self.bytes > self._max_bytes:
            for table in self._tables.values():
                table.drop_all()
            self.bytes = 0
        self._counted = len(self)
