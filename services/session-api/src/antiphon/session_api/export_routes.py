"""The route of /v1/events/export: everything of the caller's tenant, as lines of JSON."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from antiphon.chassis.http.representation import accepts_gzip
from antiphon.chassis.log import Log
from antiphon.contracts.cursor import MAX_TEXT, Cursor
from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.feed.export import MEDIA_TYPE, Exporting, ExportResponse, export_lines
from antiphon.session_api.feed.filters import Families, OfFlow, OfSession, Types, event_filter
from antiphon.session_api.feed.start import After, Since, checked_cursor, start_cursor
from antiphon.session_api.instants import parse_instant
from antiphon.session_api.problems import invalid
from antiphon.session_api.route_docs import EXPORT
from antiphon.session_api.streams import CountedResponse, OpenStream

exports = APIRouter(prefix="/v1/events", tags=["events"], route_class=ApiRoute)


class Lines(Response):
    """The media type of an export, for the OpenAPI document."""

    media_type = MEDIA_TYPE


Until = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=MAX_TEXT,
        description="end with the events committed before this time, or with a cursor: the `until` of a "
        "control line; by default, with the newest of now",
        examples=["2026-11-21T09:30:00Z"],
    ),
]
WithoutPii = Annotated[
    Literal["true", "false"],
    Query(
        description="whether to leave out the fields that the schemas mark `x-pii`; an event then has the "
        "newest version of its type, and one of an unknown type or version has an empty body"
    ),
]


@exports.get("/export", response_class=Lines, **EXPORT)
async def export_events(
    request: Request,
    types: Types = None,
    families: Families = None,
    session_id: OfSession = None,
    flow_id: OfFlow = None,
    after: After = None,
    since: Since = None,
    until: Until = None,
    without_pii: WithoutPii = "false",
) -> Response:
    """Export the events of all sessions up to the newest of now, as lines of JSON, one event in each.

    Control lines, whose first member is `cursor`, say where to go on if the connection breaks: repeat the
    request with their `after={cursor}` and `until={until}`, and drop what came after the last of them. The
    export has ended only with the control line that is `complete`.
    """
    dependencies, key = dependencies_of(request), caller(request)
    hubs, log = dependencies.hubs, dependencies.log
    wanted = event_filter(types, families, session_id, flow_id)
    gzip = accepts_gzip(",".join(request.headers.getlist("accept-encoding")).encode("latin-1"))

    async def opened(stream: OpenStream) -> Response:
        end = await _end_cursor(log, hubs.log_id, until)
        start = await start_cursor(log, hubs.log_id, after=after, since=since)
        export = Exporting(key.tenant, wanted, start, end, without_pii == "true")
        lines = export_lines(hubs, export, stream)
        return ExportResponse(lines, dependencies.exports, key.tenant, gzip=gzip)

    return CountedResponse(dependencies.limits.streams, request.state.key_digest, key, opened)


async def _end_cursor(log: Log, log_id: str, until: str | None) -> Cursor:
    """Return the cursor where an export ends.

    Raises Problem 422 for what is neither a time nor a cursor of this log, DatabaseUnavailable.
    """
    if until is None:
        return await log.head()
    if not until[0].isdigit():  # as a time begins, and no cursor
        return await checked_cursor(log, log_id, until, "until", "query")
    try:
        time = parse_instant(until)
    except ValueError as error:
        raise invalid("until", "query", str(error), "value_error") from error
    return await log.at(time)
