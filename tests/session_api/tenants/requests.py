"""The requests of the matrix: for each route those that name something, which may be of another tenant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.session_api.tenants.conftest import CONVERSATION, FLOW, NOT_THERE, USER, VICTIM, Stack

from antiphon.contracts.api_keys import Scope
from antiphon.session_api.pagination import encode_name_cursor

STREAM = {"Accept": "text/event-stream"}
SOURCE = f"id: {FLOW}\nname: of the intruder\n"


class Names(NamedTuple):
    """What a request names: of the victim, or of nobody."""

    tenant: str
    session_id: str
    flow_id: str
    key_id: str
    user: str
    conversation: str
    key_cursor: str
    audit_cursor: str


def of_victim(stack: Stack) -> Names:
    """Return what the victim has."""
    cursors = (stack.cursors["/v1/keys"], stack.cursors["/v1/audit"])
    return Names(VICTIM, stack.session_id, FLOW, stack.key_id, USER, CONVERSATION, *cursors)


def of_nobody() -> Names:
    """Return what does not exist, in the same form."""
    key_id = "key_" + NOT_THERE.removeprefix("ses_")
    key_cursor = encode_name_cursor("keys", key_id)
    audit_cursor = encode_name_cursor("audit", f"victim.aud_{NOT_THERE.removeprefix('ses_')}")
    return Names(
        "nobody", NOT_THERE, "vaulx", key_id, "other-user", "other-conversation", key_cursor, audit_cursor
    )


class Sent(NamedTuple):
    """A request, and the statuses that a key of another tenant with the scope may get."""

    path: str
    statuses: tuple[int, ...]
    headers: Mapping[str, str] = {}
    body: Any = None
    text: str | None = None


@dataclass(frozen=True)
class Route:
    """The scopes that open a route, any of them, and its requests."""

    scopes: tuple[Scope, ...]
    requests: Callable[[Names], tuple[Sent, ...]]


READ, WRITE, ADMIN = (Scope.SESSIONS_READ,), (Scope.SESSIONS_WRITE,), (Scope.ADMIN,)
FLOWS_READ, FLOWS_WRITE = (Scope.FLOWS_READ,), (Scope.FLOWS_WRITE,)
UNKNOWN, LISTED, FOREIGN = (404,), (200,), (403,)
ANY_TAG = {"If-None-Match": "*"}


def session(tail: str, *queries: str, headers: Mapping[str, str] | None = None) -> Route:
    """Return the requests of a route below a session: with each query, also for 304, and as a stream."""

    def requests(names: Names) -> tuple[Sent, ...]:
        path = f"/v1/sessions/{names.session_id}{tail}"
        plain = [Sent(path + query, UNKNOWN) for query in ("", *queries)]
        return (*plain, Sent(path, UNKNOWN, ANY_TAG), Sent(path, UNKNOWN, headers or ANY_TAG))

    return Route(READ, requests)


def flow(tail: str, *queries: str) -> Route:
    """Return the requests of a route below a flow."""

    def requests(names: Names) -> tuple[Sent, ...]:
        path = f"/v1/flows/{names.flow_id}{tail}"
        plain = [Sent(path + query, UNKNOWN) for query in ("", *queries)]
        return (
            *plain,
            Sent(path, UNKNOWN, ANY_TAG),
            Sent(path, UNKNOWN, {"If-None-Match": '"1"', "Accept": "application/yaml"}),
        )

    return Route(FLOWS_READ, requests)


def feed(path: str) -> Route:
    """Return the requests for the events of all sessions, with the filters and cursors of the victim."""

    def requests(names: Names) -> tuple[Sent, ...]:
        of_flow, of_session = f"{path}?flow_id={names.flow_id}", f"{path}?session_id={names.session_id}"
        return Sent(path, LISTED), Sent(of_flow, LISTED), Sent(of_session, LISTED)

    return Route(READ, requests)


def listing(path: str, *queries: Callable[[Names], str]) -> Route:
    """Return the requests of a list that takes names as filters."""
    return Route(
        READ,
        lambda names: (Sent(path, LISTED), *(Sent(f"{path}?{query(names)}", LISTED) for query in queries)),
    )


def post_session(tail: str, *bodies: Any, scopes: tuple[Scope, ...] = WRITE) -> Route:
    """Return the requests of an operation on a session."""
    return Route(
        scopes,
        lambda names: tuple(Sent(f"/v1/sessions/{names.session_id}{tail}", UNKNOWN, body=b) for b in bodies),
    )


def change_key(tail: str) -> Route:
    """Return the requests of an operation on a key."""
    return Route(ADMIN, lambda names: (Sent(f"/v1/keys/{names.key_id}{tail}", UNKNOWN, body={}),))


def of_admin(path: str, cursor: Callable[[Names], str]) -> Route:
    """Return the requests of a list of administrators."""

    def requests(names: Names) -> tuple[Sent, ...]:
        return (
            Sent(path, LISTED),
            Sent(f"{path}?tenant={names.tenant}", FOREIGN),
            Sent(f"{path}?cursor={cursor(names)}", (422,)),
        )

    return Route(ADMIN, requests)


# A route without an entry fails the test: say what it may answer to a key of another tenant.
ROUTES: dict[str, Route] = {
    "GET /v1/sessions": listing(
        "/v1/sessions",
        lambda names: f"user_id={names.user}",
        lambda names: f"conversation_id={names.conversation}",
        lambda names: f"room={names.session_id}",
        lambda names: f"flow_id={names.flow_id}&test=true",
        lambda names: f"metadata[tenant]={names.flow_id}",
    ),
    "POST /v1/sessions": Route(
        WRITE,
        lambda names: (Sent("/v1/sessions", (404,), body={"flow_id": names.flow_id, "user_id": "x"}),),
    ),
    "GET /v1/sessions/{session_id}": session("", "?at=1", "?at_time=2026-01-01T00:00:00Z", "?wait=ready"),
    "GET /v1/sessions/{session_id}/turns": session("/turns", "?at=2", "?limit=1"),
    "GET /v1/sessions/{session_id}/timeline": session("/timeline", "?limit=1"),
    "GET /v1/sessions/{session_id}/events": session(
        "/events", "?after=1", "?limit=1", headers={**STREAM, "Last-Event-ID": "2"}
    ),
    "POST /v1/sessions/{session_id}/end": post_session("/end", None),
    "POST /v1/sessions/{session_id}/token": post_session(
        "/token",
        {"identity": "caller"},
        {"role": "supervisor", "barge": True},
        scopes=(Scope.SESSIONS_WRITE, Scope.SUPERVISE),
    ),
    "GET /v1/flows": listing("/v1/flows"),
    "GET /v1/flows/{flow_id}": flow(""),
    "GET /v1/flows/{flow_id}/revisions": flow("/revisions", "?limit=1"),
    "GET /v1/flows/{flow_id}/revisions/{revision}": flow("/revisions/1"),
    "GET /v1/flows/{flow_id}/diff": flow("/diff", "?from=1&to=2"),
    "PUT /v1/flows/{flow_id}": Route(
        FLOWS_WRITE,
        # the newest revision of the victim: a condition on it must not hold for a tenant without the flow
        lambda names: (
            Sent(
                f"/v1/flows/{names.flow_id}",
                (412,),
                {"Content-Type": "application/yaml", "If-Match": '"2"'},
                text=SOURCE,
            ),
        ),
    ),
    "POST /v1/flows/{flow_id}/test-audio": Route(
        FLOWS_WRITE,
        lambda names: (
            Sent(f"/v1/flows/{names.flow_id}/test-audio", UNKNOWN, body={}),
            Sent(f"/v1/flows/{names.flow_id}/test-audio", UNKNOWN, body={"revision": 1}),
        ),
    ),
    "GET /v1/events": feed("/v1/events"),
    "GET /v1/events/export": feed("/v1/events/export"),
    "GET /v1/analytics/daily": listing("/v1/analytics/daily", lambda names: f"flow_id={names.flow_id}"),
    "GET /v1/analytics/usage": listing("/v1/analytics/usage", lambda names: f"flow_id={names.flow_id}"),
    "POST /v1/keys": Route(
        ADMIN,
        lambda names: (
            Sent(
                "/v1/keys",
                FOREIGN,
                body={
                    "name": "mine",
                    "scopes": ["admin"],
                    "tenant": names.tenant,
                },
            ),
        ),
    ),
    "GET /v1/keys": of_admin("/v1/keys", lambda names: names.key_cursor),
    "GET /v1/keys/{key_id}": Route(
        ADMIN,
        lambda names: (
            Sent(f"/v1/keys/{names.key_id}", UNKNOWN),
            Sent(f"/v1/keys/{names.key_id}", UNKNOWN, ANY_TAG),
        ),
    ),
    "POST /v1/keys/{key_id}/rotate": change_key("/rotate"),
    "POST /v1/keys/{key_id}/revoke": change_key("/revoke"),
    "GET /v1/audit": of_admin("/v1/audit", lambda names: names.audit_cursor),
}
# Without a key, for everybody: they know nothing of tenants.
PUBLIC = {
    "GET /health/live",
    "GET /health/ready",
    "GET /openapi.json",
    "GET /docs",
    "ANY /static-offline-docs",
    "GET /docs/oauth2-redirect",
    "GET /problems",
    "GET /problems/{name}",
}
