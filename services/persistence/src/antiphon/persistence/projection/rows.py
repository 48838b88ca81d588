"""The rows of a view while events are folded into them: those of the cache, those changed, those to read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from antiphon.contracts.envelope import Envelope
from antiphon.persistence.projection.tables import Key, Row, Values, ViewTable

MAX_CACHED_BYTES = 32 << 20  # of rows that were read, and of the events folded into them since
ROW_BYTES = 1_000  # of a row besides its texts, about


class NotLoaded(Exception):
    """A row is needed that has not been read: the batch is folded again once it has been."""


class AllRows(dict[tuple[str, Key], Row | None]):
    """All rows of a view, but for some that were too large: what is not here does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: set[tuple[str, Key]] = set()

    def pop(self, place: tuple[str, Key], default: Row | None = None) -> Row | None:  # type: ignore[override]
        """Drop a row, which must be read before it is needed again."""
        self.dropped.add(place)
        return super().pop(place, default)


class Cache:
    """Rows of a view that were read or written, None for a row that does not exist; bounded in bytes.

    `complete` says that the view is empty: until rows are dropped for want of space, nothing has to be read.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES, *, complete: bool = False) -> None:
        self.rows: dict[tuple[str, Key], Row | None] = AllRows() if complete else {}
        self.bytes = 0  # at most: an event counts in full, however little of it its row keeps
        self._max_bytes = max_bytes
        self._counted = 0  # rows

    def unknown(self, table: ViewTable, keys: Iterable[Key]) -> list[Key]:
        """Return those of the keys whose rows must be read."""
        if isinstance(self.rows, AllRows):
            return [key for key in keys if (table.name, key) in self.rows.dropped]
        return [key for key in keys if (table.name, key) not in self.rows]

    def put(self, table: ViewTable, record: Mapping[str, Any]) -> None:
        """Keep a row that was read, and count its texts."""
        self.rows[table.name, tuple(record[name] for name in table.key)] = table.loaded(record)
        self.bytes += sum(len(v) for v in record.values() if isinstance(v, str | bytes))

    def trim(self, envelopes: Sequence[Envelope]) -> None:
        """Count the new rows, and the events that they were made of; drop all if there are too many."""
        self.bytes += ROW_BYTES * max(0, len(self.rows) - self._counted)
        self.bytes += sum(len(envelope.data) for envelope in envelopes)
        if self.bytes > self._max_bytes:
            self.rows = {}
            self.bytes = 0
        self._counted = len(self.rows)


class Rows:
    """The rows that one batch of events finds and changes; `rows(TABLE, *key)` is what a handler calls."""

    def __init__(self, cache: dict[tuple[str, Key], Row | None]) -> None:
        self.missing: set[tuple[ViewTable, Key]] = set()
        self._before = cache
        self._dropped = cache.dropped if isinstance(cache, AllRows) else None
        self._changed: dict[tuple[str, Key], Row] = {}
        self._tables: dict[str, ViewTable] = {}

    def __call__(self, table: ViewTable, *key: Any) -> Row:
        """Return a row to change; one that does not exist has its key and the defaults of its columns."""
        row = self._changed.get((table.name, key))
        if row is None:
            stored = table.stored_key(key)
            place = (table.name, stored)
            row = self._changed.get(place)
            if row is None:
                before = self._known(table, place)
                row = self._changed[place] = table.new(stored) if before is None else before.copy()
                self._tables[table.name] = table
        return row

    def several(self, table: ViewTable, keys: Iterable[Key]) -> list[Row]:
        """Return rows to change, as `rows(table, *key)` does for one; those to read are read together."""
        rows, complete = [], True
        for key in keys:
            try:
                rows.append(self(table, *key))
            except NotLoaded:
                complete = False
        if not complete:
            raise NotLoaded
        return rows

    def find(self, table: ViewTable, *key: Any) -> Row | None:
        """Return a row, not to be changed, or None if it does not exist."""
        stored = table.stored_key(key)
        place = (table.name, stored)
        return self._changed.get(place) or self._known(table, place)

    def _known(self, table: ViewTable, place: tuple[str, Key]) -> Row | None:
        row = self._before.get(place)
        if row is None and place not in self._before and (self._dropped is None or place in self._dropped):
            self.missing.add((table, place[1]))
            raise NotLoaded
        return row

    def written(self) -> dict[str, list[Values]]:
        """Return the values of the changed rows of each table, in the order of their keys."""
        values: dict[str, list[Values]] = {}
        # Two writers of one table would wait for one another if they locked rows in different orders.
        for name, _, columns in self._differing(sorted(self._changed.items(), key=_place)):
            values.setdefault(name, []).append(columns)
        return values

    def created_and_changed(self) -> tuple[dict[str, list[Values]], dict[str, list[Values]]]:
        """Return the values of the rows that do not exist yet, and of those that do, by table."""
        created: dict[str, list[Values]] = {}
        changed: dict[str, list[Values]] = {}
        for name, exists, columns in self._differing(self._changed.items()):
            (changed if exists else created).setdefault(name, []).append(columns)
        return created, changed

    def _differing(self, rows: Iterable[tuple[tuple[str, Key], Row]]) -> Iterator[tuple[str, bool, Values]]:
        """Yield the table of each row that differs from what it was, whether it exists, and its values."""
        for (name, key), row in rows:
            before = self._before.get((name, key))
            if row != before:
                yield name, before is not None, self._tables[name].values(row, before)

    def whole(self, table: ViewTable) -> list[Values]:
        """Return all values of the changed rows of a table, as they are written to an empty table."""
        return [table.values(row, None) for (name, _), row in self._changed.items() if name == table.name]

    def taken(self, table: ViewTable) -> Iterator[Values]:
        """Yield the same row by row, and forget each."""
        for place in [place for place in self._changed if place[0] == table.name]:
            yield table.values(self._changed.pop(place), None)

    def keep(self) -> None:
        """Put the changed rows into the cache, once they are committed."""
        for (name, key), row in self._changed.items():
            kept = self._tables[name].kept(row)
            if kept is None:
                self._before.pop((name, key), None)
            else:
                self._before[name, key] = kept


def _place(item: tuple[tuple[str, Key], Row]) -> tuple[str, Key]:
    return item[0]
