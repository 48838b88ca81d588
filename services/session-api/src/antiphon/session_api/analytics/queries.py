"""SQL queries of the views `daily`, `usage` and `timeline`."""

from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, NamedTuple

import asyncpg
import msgspec

from antiphon.chassis.database import Database, translate_errors
from antiphon.contracts.views import USAGE_COUNTS
from antiphon.session_api.analytics.figures import TimelineItem, daily_figures
from antiphon.session_api.analytics.period import Period
from antiphon.session_api.pagination import PAGE_BYTES
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.bounded import Listed, bounded, listed

_WANTED = "tenant = $1 and day between $2 and $3 and ($4::text is null or flow_id = $4)"
DAILY = f"""
with page as (
    select day, flow_id from daily where {_WANTED} group by day, flow_id order by day, flow_id
    offset $5 limit $6
)
select daily.* from daily join page using (day, flow_id) where tenant = $1 order by day, flow_id
"""
_SUMS = ", ".join(f"sum({name})::bigint as {name}" for name in USAGE_COUNTS)
USAGE = f"""
select day, row_to_json(found)::text as document
from (
    select day, kind, provider, model, count(distinct session_id) as sessions, {_SUMS},
           sum(audio_seconds) as audio_seconds
    from usage where {_WANTED} group by day, kind, provider, model order by day, kind, provider, model
    offset $5 limit $6
) as found
"""
TIMELINE = f"""
select started_at, sequence, part, row_to_json(found)::text as document
from (
    select {", ".join(TimelineItem.__struct_fields__)}
    from timeline
    where tenant = $1 and session_id = $2 and (started_at, sequence, part) > ($3, $4::integer, $5::smallint)
    order by started_at, sequence, part
    limit $6
) as found
"""


class DayPlace(NamedTuple):
    """A place in a list by day: after so many entries of a day."""

    day: date
    entries: int = 0

    def after(self, shown: list[date]) -> "DayPlace":
        """Return the place after further entries, given their days."""
        last = shown[-1]
        before = self.entries if last == self.day else 0
        return DayPlace(last, before + shown.count(last))


class Place(NamedTuple):
    """A place in a timeline: after the thing with these values."""

    started_at: datetime
    sequence: int
    part: int


FIRST_PLACE = Place(datetime.min.replace(tzinfo=UTC), 0, 0)


class Analytics:
    """Queries of the views for analytics.

    Every method raises DatabaseUnavailable, and Problem 503 when its view is not built yet.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def daily(
        self, tenant: str, wanted: Period, flow_id: str | None, after: DayPlace, limit: int
    ) -> Listed[tuple[date, bytes]]:
        """Return the figures of each day and flow, in order, each with its day and as JSON."""
        first = max(wanted.first, after.day)
        arguments = (tenant, first, wanted.last, flow_id, after.entries, limit + 1)
        rows = await self._fetch("daily", DAILY, *arguments)
        groups = [(key, list(of_day)) for key, of_day in groupby(rows, lambda r: (r["day"], r["flow_id"]))]
        shown = [(day, msgspec.json.encode(daily_figures(day, flow, of))) for (day, flow), of in groups]
        return Listed(shown[:limit], len(shown) > limit)

    async def usage(
        self, tenant: str, wanted: Period, flow_id: str | None, after: DayPlace, limit: int
    ) -> Listed[tuple[date, str]]:
        """Return the usage of each day and model, in order, each with its day and as JSON."""
        first = max(wanted.first, after.day)
        arguments = (tenant, first, wanted.last, flow_id, after.entries, limit + 1)
        rows = await self._fetch("usage", USAGE, *arguments)
        shown = [(row["day"], row["document"]) for row in rows]
        return Listed(shown[:limit], len(shown) > limit)

    async def timeline(
        self, tenant: str, session_id: str, after: Place, limit: int
    ) -> Listed[tuple[Place, str]]:
        """Return what happened in a session after a place, in order of its start; fewer if they are large."""
        statement = bounded(TIMELINE, "document", 7)
        rows = await self._fetch("timeline", statement, tenant, session_id, *after, limit + 1, PAGE_BYTES)
        return listed(rows, limit, lambda row: (Place(*row[:3]), row["document"]))

    async def _fetch(self, view: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            with translate_errors():
                return await self._database.pool.fetch(statement, *arguments)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise view_not_built(view) from error


def view_not_built(view: str) -> Problem:
    """Return the problem for a view that persistence has not built yet."""
    detail = f"The view {view} is not built yet: `persistence status` shows how far it is."
    return Problem(503, "view-not-built", detail, view=view, retry_after_seconds=10)
