"""The routes of /v1/analytics, and that of a session's timeline."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from antiphon.session_api.analytics.period import From, Period, To, parse_day, period
from antiphon.session_api.analytics.queries import FIRST_PLACE, DayPlace, Place
from antiphon.session_api.analytics_docs import DAILY, TIMELINE, USAGE
from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.pagination import (
    Limit,
    PageCursor,
    decode_name_cursor,
    encode_name_cursor,
    invalid_cursor,
    page,
)
from antiphon.session_api.routes import SessionId
from antiphon.session_api.sessions.schemas import StoredName

analytics = APIRouter(prefix="/v1", route_class=ApiRoute)

FlowId = Annotated[StoredName | None, Query(description="only the sessions of this flow")]


@analytics.get("/analytics/daily", tags=["analytics"], **DAILY)
async def list_daily(
    request: Request,
    first: From = None,
    last: To = None,
    flow_id: FlowId = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """Count calls, outcomes, minutes, turns and latencies per day and flow, by the day a session began."""
    wanted, after = _wanted(request, first, last, "daily", cursor)
    views = dependencies_of(request).analytics
    found = await views.daily(caller(request).tenant, wanted, flow_id, after, limit)
    days = [day for day, _ in found.items]
    return page("days", (item for _, item in found.items), _next("daily", after, days, found.more))


@analytics.get("/analytics/usage", tags=["analytics"], **USAGE)
async def list_usage(
    request: Request,
    first: From = None,
    last: To = None,
    flow_id: FlowId = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """Add up what the models were used for, per day, provider and model, by the day a session began."""
    wanted, after = _wanted(request, first, last, "usage", cursor)
    views = dependencies_of(request).analytics
    found = await views.usage(caller(request).tenant, wanted, flow_id, after, limit)
    days = [day for day, _ in found.items]
    return page("usage", (item for _, item in found.items), _next("usage", after, days, found.more))


@analytics.get("/sessions/{session_id}/timeline", tags=["sessions"], **TIMELINE)
async def list_timeline(
    request: Request, session_id: SessionId, cursor: PageCursor = None, limit: Limit = 50
) -> Response:
    """List what happened in the session, for a person to read, in the order in which it began."""
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    name = f"timeline:{session_id}"
    after = FIRST_PLACE if cursor is None else _place(decode_name_cursor(name, cursor))
    found = await dependencies.analytics.timeline(tenant, session_id, after, limit)
    if not found.items:
        await dependencies.lookup.require(tenant, session_id)
    more = None
    if found.more:
        last = found.items[-1][0]
        more = encode_name_cursor(name, f"{last.started_at.isoformat()} {last.sequence} {last.part}")
    return page("timeline", (item for _, item in found.items), more)


def _wanted(
    request: Request, first: date | None, last: date | None, name: str, cursor: str | None
) -> tuple[Period, DayPlace]:
    wanted = period(first, last, dependencies_of(request).clock().astimezone(UTC).date())
    if cursor is None:
        return wanted, DayPlace(wanted.first)
    day, _, entries = decode_name_cursor(name, cursor).partition(" ")
    if not (entries.isascii() and entries.isdigit() and len(entries) < 10):
        raise invalid_cursor()
    try:
        after = DayPlace(parse_day(day), int(entries))
    except ValueError as error:
        raise invalid_cursor() from error
    if not wanted.first <= after.day <= wanted.last:
        raise invalid_cursor()
    return wanted, after


def _next(name: str, before: DayPlace, days: Sequence[date], more: bool) -> str | None:
    if not more:
        return None
    after = before.after(list(days))
    return encode_name_cursor(name, f"{after.day.isoformat()} {after.entries}")


def _place(text: str) -> Place:
    try:
        started_at, sequence, part = text.split(" ")
        place = Place(datetime.fromisoformat(started_at), int(sequence), int(part))
    except ValueError as error:
        raise invalid_cursor() from error
    if place.started_at.tzinfo is None or not 0 <= place.sequence < 2**31 or not 0 <= place.part < 2**15:
        raise invalid_cursor()
    return place
