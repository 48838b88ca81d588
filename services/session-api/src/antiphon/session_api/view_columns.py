"""Whether the views have what this version reads: during an upgrade, persistence may still build them."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
from antiphon.chassis.health import CHECK_DEADLINE_SECONDS
from antiphon.contracts.views import TABLES

LOOK_SECONDS = CHECK_DEADLINE_SECONDS / 2  # a Postgres that does not answer makes no replica unready

_COLUMNS = """
select name, attname
  from unnest($1::text[]) as name
  join pg_attribute on attrelid = to_regclass(name)
 where attnum > 0 and not attisdropped
"""


class ViewsBehind(Exception):
    """A view lacks columns that this version reads; the message names it and says what to do."""


class ViewColumns:
    """The readiness of the views: once they have all columns, they are not looked at again.

    A replica that waits for them leaves the requests to those of the version before.
    """

    def __init__(self, database: Database, tables: Mapping[str, type[Struct]] = TABLES) -> None:
        self._database = database
        self._needed = {name: set(table.__struct_fields__) for name, table in tables.items()}
        self._complete = False

    async def check(self) -> str:
        """Return what is known, for `Health.add`: without Postgres nothing is, and sessions are created.

        Raises ViewsBehind.
        """
        if self._complete:
            return ""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                with translate_errors():
                    rows = await self._database.pool.fetch(_COLUMNS, list(self._needed))
        except (DatabaseUnavailable, TimeoutError):
            return "unknown while Postgres is unavailable"
        found: dict[str, set[str]] = {name: set() for name in self._needed}
        for name, column in rows:
            found[name].add(column)
        behind = sorted(name for name, columns in self._needed.items() if columns - found[name])
        if behind:
            raise ViewsBehind(
                f"{', '.join(behind)} not built in this version: "
                "migrate the database, and start persistence of this version"
            )
        self._complete = True
        return ""
