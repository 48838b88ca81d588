"""The rows of a view while a batch of events is folded into them: those changed, and those to read first."""

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from antiphon.persistence.projection.cache import Cache, NotLoaded
from antiphon.persistence.projection.tables import Key, Row, Values, ViewTable

_key = itemgetter(0)


class Rows:
    """The rows that one batch of events finds and changes; `rows(TABLE, *key)` is what a handler calls."""

    def __init__(self, cache: Cache) -> None:
        self.missing: set[tuple[ViewTable, Key]] = set()
        self._cache = cache
        self._changed: dict[ViewTable, dict[Key, Row]] = {}

    def __call__(self, table: ViewTable, *key: Any) -> Row:
        """Return a row to change; one that does not exist has its key and the defaults of its columns."""
        changed = self._changed.get(table)
        if changed is None:
            changed = self._changed[table] = {}
        row = changed.get(key)
        if row is None:
            stored = table.stored_key(key)
            row = changed.get(stored)
            if row is None:
                before = self._known(table, stored)
                row = changed[stored] = table.new(stored) if before is None else before.copy()
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
        changed = self._changed.get(table)
        return (changed and changed.get(stored)) or self._known(table, stored)

    def _known(self, table: ViewTable, key: Key) -> Row | None:
        try:
            return self._cache.of(table).get(key)
        except NotLoaded:
            self.missing.add((table, key))
            raise

    def written(self) -> dict[str, list[Values]]:
        """Return the values of the changed rows of each table, in the order of their keys."""
        # Two writers of one table would wait for one another if they locked rows in different orders.
        return {
            table.name: values
            for table, changed in sorted(self._changed.items(), key=lambda item: item[0].name)
            if (values := [values for _, values in self._differing(table, sorted(changed.items(), key=_key))])
        }

    def created_and_changed(self) -> tuple[dict[str, list[Values]], dict[str, list[Values]]]:
        """Return the values of the rows that do not exist yet, and of those that do, by table."""
        created: dict[str, list[Values]] = {}
        changed: dict[str, list[Values]] = {}
        for table, rows in self._changed.items():
            for exists, values in self._differing(table, rows.items()):
                (changed if exists else created).setdefault(table.name, []).append(values)
        return created, changed

    def _differing(self, table: ViewTable, rows: Iterable[tuple[Key, Row]]) -> Iterator[tuple[bool, Values]]:
        """Yield of each row that differs from what it was, whether it exists, and its values."""
        before_of, values = self._cache.of(table).rows.get, table.values
        for key, row in rows:
            before = before_of(key)
            if before is None:
                yield False, values(row, None)
            elif row != before:
                yield True, values(row, before)

    def whole(self, table: ViewTable) -> list[Values]:
        """Return all values of the changed rows of a table, as they are written to an empty table."""
        return [table.values(row, None) for row in self._changed.get(table, {}).values()]

    def taken(self, table: ViewTable) -> Iterator[Values]:
        """Yield the same row by row, and forget each."""
        changed = self._changed.get(table, {})
        while changed:
            yield table.values(changed.popitem()[1], None)

    def keep(self) -> None:
        """Put the changed rows into the cache, once they are committed."""
        for table, changed in self._changed.items():
            cached = self._cache.of(table)
            for key, row in changed.items():
                kept = table.kept(row)
                if kept is None:
                    cached.drop(key)
                else:
                    cached.rows[key] = kept
