"""Where a reader of a tenant's events starts: at the start, now, at a time, or after a cursor."""

from typing import Annotated

from fastapi import Query

from antiphon.chassis.log import Log
from antiphon.contracts.cursor import MAX_TEXT, Cursor, InvalidCursor
from antiphon.session_api.instants import Instant
from antiphon.session_api.problems import Problem, invalid

START, NOW = "start", "now"
LAST_EVENT_ID = "Last-Event-ID"

After = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=MAX_TEXT,
        description="`start`, `now`, or a cursor: the `next` of a page or the `id` of a stream, as it is; "
        "`start` by default",
        examples=[NOW],
    ),
]
Since = Annotated[
    Instant | None,
    Query(description="start with the events committed at this time or later; not with `after`"),
]


async def start_cursor(
    log: Log, log_id: str, *, after: str | None, since: Instant | None, last_event_id: str | None = None
) -> Cursor:
    """Return the cursor to start after; `last_event_id`, a cursor, comes before the others.

    Raises Problem 422 for one that is not of this log, DatabaseUnavailable.
    """
    if after is not None and since is not None:
        raise invalid("since", "query", "takes no `after` beside it: pass one of the two", "not_together")
    if last_event_id:
        return await checked_cursor(log, log_id, last_event_id, LAST_EVENT_ID, "header")
    if since is not None:
        return await log.at(since)
    if after == NOW:
        return await log.head()
    if after is None or after == START:
        return Cursor()
    return await checked_cursor(log, log_id, after, "after", "query")


async def checked_cursor(log: Log, log_id: str, text: str, field: str, where: str) -> Cursor:
    """Return the cursor of a parameter or header.

    Raises Problem 422 for one that is not of this log, DatabaseUnavailable.
    """
    try:
        cursor = Cursor.parse(text, log_id)
        await log.check(cursor)
    except InvalidCursor as error:
        detail = f"{field}: {error}."
        errors = [{"field": field, "in": where, "message": str(error), "code": "invalid_cursor"}]
        raise Problem(422, "invalid-cursor", detail, errors=errors) from error
    return cursor
