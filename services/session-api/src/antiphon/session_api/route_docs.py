"""What each route responds with, as the OpenAPI document shows it: answers, problems and headers."""

from collections.abc import Mapping
from typing import Any

from antiphon.session_api import examples
from antiphon.session_api.components import reference
from antiphon.session_api.feed.export import MEDIA_TYPE as LINES
from antiphon.session_api.problem_types import ProblemType, by_status
from antiphon.session_api.problems import MEDIA_TYPE
from antiphon.session_api.sessions.filters import METADATA_PARAMETER
from antiphon.session_api.sessions.idempotency import HEADER, KEY_PATTERN
from antiphon.session_api.sessions.sse import MEDIA_TYPE as EVENT_STREAM

PROBLEMS_OF = "x-problems"  # of an operation, until the document replaces it with the responses

Node = dict[str, Any]
Statuses = dict[int | str, Node]

# What every route with a key can respond with, and every route at all; the document adds them.
AUTHENTICATED = (
    "missing-credentials",
    "invalid-credentials",
    "expired-credentials",
    "missing-scope",
    "invalid-request",
    "rate-limited",
    "quota-exceeded",
)
EVERY_ROUTE = (
    "malformed-request",
    "method-not-allowed",
    "headers-too-large",
    "internal-error",
    "deadline-exceeded",
    "too-many-connections",
)
BODY = ("malformed-json", "content-too-large", "server-busy", "unsupported-media-type", "request-timeout")
_LIVEKIT = ("livekit-refused", "livekit-unavailable", "broker-unavailable")
_READ = ("broker-unavailable", "database-unavailable")


def answer(description: str, schema: Node, example: Any, headers: Node | None = None) -> Node:
    """Return the documentation of a response with a JSON body."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def problems(*names: str) -> Statuses:
    """Return the documentation of these problems, grouped by status."""
    return {status: _problem(status, types) for status, types in by_status(names).items()}


def _problem(status: int, types: list[ProblemType]) -> Node:
    documented: Node = {
        "description": " ".join(problem.happened for problem in types),
        "content": {
            MEDIA_TYPE: {
                "schema": reference("ProblemDocument"),
                "examples": {problem.name: {"value": _example(status, problem)} for problem in types},
            }
        },
    }
    if status == 401:
        documented["headers"] = {
            "WWW-Authenticate": {"schema": {"type": "string"}, "description": "how to authenticate"}
        }
    elif status == 405:
        documented["headers"] = {
            "Allow": {"schema": {"type": "string"}, "description": "the methods of this path"}
        }
    elif status in {429, 503}:
        documented["headers"] = {
            "Retry-After": {
                "schema": {"type": "string", "pattern": "^[0-9]+$"},
                "description": "seconds until a retry makes sense",
            }
        }
    return documented


def _example(status: int, problem: ProblemType) -> Node:
    example: Node = {
        "type": problem.uri,
        "title": problem.title,
        "status": status,
        "detail": problem.happened,
        "request_id": "req_8f1f30f3d3f7c0a1b2c3d4e5",
        "instance": "/v1/sessions",
    }
    if status == 422:
        example["errors"] = [{"field": "user_id", "in": "body", "message": "is missing", "code": "missing"}]
    return example


def _page(schema: str, noun: str, item: Any, following: str | None) -> Node:
    return answer(f"A page of {noun}", reference(schema), {noun: [item], "next": following})


def route(answers: Mapping[int, Node], *names: str, **more: Any) -> Node:
    """Return the arguments of a route: its answers, its own problems, and more of its operation."""
    return {"responses": dict(answers), "openapi_extra": {**more, PROBLEMS_OF: names}}


_NOT_READY = "Only with `wait=ready`: the state reached at the deadline, or at the end of the session"
_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "makes retries safe: the same key and body return the same session",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "example": "order-17",
}
CREATE = route(
    {
        201: {
            "description": "The session is recorded and its agent is dispatched",
            "content": {"application/json": {"example": examples.CREATED}},
            "headers": {
                "Location": {"schema": {"type": "string"}, "description": "the path of the session"},
                "Idempotent-Replayed": {
                    "schema": {"type": "string", "const": "true"},
                    "description": "present if an earlier request with this key created the session",
                },
            },
        },
        202: answer(_NOT_READY, reference("CreateResponse"), examples.CREATED),
    },
    "unknown-flow",
    "idempotency-key-expired",
    "idempotency-key-reused",
    *BODY,
    *_LIVEKIT,
    parameters=[_IDEMPOTENCY_KEY],
)
SESSIONS = route(
    {200: _page("SessionList", "sessions", examples.SESSION, examples.SESSION_CURSOR)},
    "database-unavailable",
    parameters=[METADATA_PARAMETER],
)
_PAST = ("outside-history", "history-erased")
_PAST_HEADERS = {
    "Antiphon-Sequence": {
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "description": "only with `at` or `at_time`: the sequence of the last event in what is shown",
    },
    "Link": {
        "schema": {"type": "string"},
        "description": 'only with `at` or `at_time`: what it is today, with `rel="latest-version"`',
    },
    "Cache-Control": {
        "schema": {"type": "string"},
        "description": (
            "`private, no-cache`; with `at` or `at_time` `private, max-age=3600, immutable`, unless no event "
            "is later than `at_time`"
        ),
    },
}
SESSION = route(
    {
        200: answer("The session", reference("Session"), examples.SESSION, dict(_PAST_HEADERS)),
        202: answer(_NOT_READY, reference("Session"), examples.SESSION),
    },
    "unknown-session",
    *_PAST,
    *_READ,
)
TURNS = route(
    {200: {**_page("TurnList", "turns", examples.TURN, None), "headers": dict(_PAST_HEADERS)}},
    "unknown-session",
    *_PAST,
    *_READ,
)
_EVENT_PAGE = _page("EventList", "events", examples.EVENT, examples.EVENT_CURSOR)
EVENTS = route(
    {
        200: {
            "description": "A page of events; with `Accept: text/event-stream` a stream of them",
            "content": {
                **_EVENT_PAGE["content"],
                EVENT_STREAM: {
                    "schema": {
                        "type": "string",
                        "description": (
                            "Server-sent events: `id` is the sequence, `event` the type, `data` an Event "
                            "as JSON. "
                            "Lines that begin with a colon are heartbeats."
                        ),
                    },
                    "example": examples.STREAM,
                },
            },
        },
        204: {"description": "The session has ended and has no further events; do not reconnect"},
    },
    "unknown-session",
    "sequence-beyond-end",
    "invalid-request",
    *_READ,
)
TOKEN = route(
    {
        200: {
            "description": "A join token",
            "content": {"application/json": {"example": examples.TOKEN}},
        }
    },
    "unknown-session",
    "session-ended",
    "room-ended",
    "database-unavailable",
    *BODY,
    *_LIVEKIT,
)
END = route(
    {
        200: answer("The session has ended", reference("EndResponse"), examples.ENDED),
        202: answer(
            "The end is requested; the agent publishes it", reference("EndResponse"), examples.ENDING
        ),
    },
    "unknown-session",
    "database-unavailable",
    *_LIVEKIT,
)
FLOWS = route({200: _page("FlowList", "flows", examples.FLOW, None)})
_FEED_PAGE = {"items": [examples.EVENT], "next": examples.FEED_CURSOR, "more": True}
ALL_EVENTS = route(
    {
        200: {
            "description": "A page of events; with `Accept: text/event-stream` a stream of them, without end",
            "content": {
                **answer("", reference("EventPage"), _FEED_PAGE)["content"],
                EVENT_STREAM: {
                    "schema": {
                        "type": "string",
                        "description": (
                            "Server-sent events: `id` is the cursor after the event, `event` the type, "
                            "`data` an Event as JSON. Lines that begin with a colon are heartbeats; an `id` "
                            "follows them, from which a stream resumes."
                        ),
                    },
                    "example": examples.FEED,
                },
            },
        },
    },
    "invalid-cursor",
    "database-unavailable",
)
EXPORT = route(
    {
        200: {
            "description": "The events, with control lines between them",
            "content": {
                LINES: {
                    "schema": {
                        "type": "string",
                        "description": (
                            'Lines of JSON: an Event, or `{"cursor": …, "until": …, "progress": …, '
                            '"complete": …, "tenant": …}`. `progress` is the part of the log that was '
                            "read, 0 to 1."
                        ),
                    },
                    "example": examples.EXPORT,
                },
            },
        },
    },
    "invalid-cursor",
    "database-unavailable",
)
