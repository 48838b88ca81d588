"""The routes of /v1/events: all events of the caller's tenant."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from antiphon.contracts.cursor import MAX_TEXT
from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.feed.filters import Families, OfFlow, OfSession, Types, event_filter
from antiphon.session_api.feed.page import event_page
from antiphon.session_api.feed.start import LAST_EVENT_ID, After, Since, start_cursor
from antiphon.session_api.feed.stream import live
from antiphon.session_api.route_docs import ALL_EVENTS
from antiphon.session_api.sessions import sse
from antiphon.session_api.streams import CountedResponse, OpenStream

events = APIRouter(prefix="/v1/events", tags=["events"], route_class=ApiRoute)

EventLimit = Annotated[int, Query(ge=1, le=1000, description="the most events of a page")]
LastEventId = Annotated[
    str | None,
    Header(
        alias=LAST_EVENT_ID,
        max_length=MAX_TEXT,
        description="the cursor to resume a stream after; it comes before `after` and `since`",
    ),
]


@events.get("", **ALL_EVENTS)
async def read_events(
    request: Request,
    types: Types = None,
    families: Families = None,
    session_id: OfSession = None,
    flow_id: OfFlow = None,
    after: After = None,
    since: Since = None,
    limit: EventLimit = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """Read the events of all sessions: a page, or with `Accept: text/event-stream` a live stream."""
    dependencies, key = dependencies_of(request), caller(request)
    hubs, log = dependencies.hubs, dependencies.log
    wanted = event_filter(types, families, session_id, flow_id)
    if not sse.accepts_stream(",".join(request.headers.getlist("accept"))):
        cursor = await start_cursor(log, hubs.log_id, after=after, since=since)
        return await event_page(hubs.reader, hubs.log_id, key.tenant, wanted, cursor, limit)

    async def opened(stream: OpenStream) -> Response:
        start = await start_cursor(log, hubs.log_id, after=after, since=since, last_event_id=last_event_id)
        heartbeat = dependencies.heartbeat_seconds
        return sse.EventStream(
            live(hubs, key.tenant, wanted, start, heartbeat_seconds=heartbeat, stream=stream)
        )

    return CountedResponse(dependencies.limits.streams, request.state.key_digest, key, opened)
