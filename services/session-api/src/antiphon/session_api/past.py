"""Answers of the past: the parameters `at` and `at_time`, and what says that a response is history.

What is on record never changes, so the sequence and the version of the fold identify a response: it has a
strong ETag, and a client that has it gets 304 without a replay.
"""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import Query, Request
from starlette.responses import Response

from antiphon.chassis.http.representation import matches
from antiphon.contracts.session import FOLD_VERSION
from antiphon.contracts.turns import TURNS_VERSION
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.instants import Instant
from antiphon.session_api.pagination import (
    LARGEST_SEQUENCE,
    decode_past_cursor,
    encode_past_cursor,
    page,
)
from antiphon.session_api.problems import invalid
from antiphon.session_api.sessions.history import Moment

At = Annotated[
    int | None,
    Query(
        description="the state after the event with this sequence; not with `at_time`",
        # Only documented: the problem for another number names those that the session has.
        json_schema_extra={"minimum": 1, "maximum": LARGEST_SEQUENCE},
    ),
]
AtTime = Annotated[
    Instant | None,
    Query(description="the last state with an `updated_at` that is not later than this time; not with `at`"),
]

SEQUENCE_HEADER = "Antiphon-Sequence"
# A deployment with another fold, or an erasure, counts for such a client after an hour at the latest.
FIXED = "private, max-age=3600, immutable"
OPEN = "private, no-cache"


def wanted_moment(at: int | None, at_time: datetime | None) -> int | datetime | None:
    """Return the sequence or the time that a request asks for; None if it asks for the present.

    Raises Problem 422.
    """
    if at is not None and at_time is not None:
        raise invalid("at_time", "query", "takes no at beside it: pass one of the two", "not_together")
    return at if at is not None else at_time


async def past_session(request: Request, session_id: str, at: int | datetime) -> Response:
    """Return the response with a session as it was.

    Raises as History does.
    """
    history, tenant = dependencies_of(request).history, caller(request).tenant
    moment = await history.moment(tenant, session_id, at)
    headers = _headers(request, moment, FOLD_VERSION)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    state = await history.session(tenant, session_id, moment.sequence)
    return Response(msgspec.json.encode(state), headers=headers, media_type="application/json")


async def past_turns(
    request: Request, session_id: str, at: int | datetime, cursor: str | None, limit: int
) -> Response:
    """Return the response with a page of a session's turns as they were.

    A cursor keeps the sequence of its first page, so that pages of one time fit together. Raises as History
    does, and Problem 422 for a cursor of another list.
    """
    history, tenant = dependencies_of(request).history, caller(request).tenant
    shown = at.astimezone(UTC).isoformat() if isinstance(at, datetime) else at
    name, after = f"turns:{session_id}@{shown}", 0
    if cursor is not None:
        at, after = decode_past_cursor(name, cursor)
    moment = await history.moment(tenant, session_id, at)
    headers = _headers(request, moment, TURNS_VERSION)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    found = await history.turns(tenant, session_id, moment.sequence, after, limit)
    more = encode_past_cursor(name, moment.sequence, found.items[-1][0]) if found.more else None
    response = page("turns", (turn for _, turn in found.items), more)
    response.headers.update(headers)
    return response


def _headers(request: Request, moment: Moment, version: int) -> dict[str, str]:
    # the path and the query are those of one page, so its ETag has to tell only the moments apart
    return {
        "ETag": f'"{moment.sequence}.{version}"',
        "Cache-Control": FIXED if moment.fixed else OPEN,
        "Vary": "Authorization",
        SEQUENCE_HEADER: str(moment.sequence),
        "Link": f'<{request.url.path}>; rel="latest-version"',
    }


def _is_known(request: Request, headers: dict[str, str]) -> bool:
    known = request.headers.get("if-none-match")
    return known is not None and matches(known.encode("latin-1"), headers["ETag"].encode())
