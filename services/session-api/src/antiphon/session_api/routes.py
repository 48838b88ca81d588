"""The routes of /v1/sessions."""

from contextlib import nullcontext
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import AfterValidator

from antiphon.chassis.log import sequence_of
from antiphon.contracts.api_keys import ApiKey, Scope
from antiphon.contracts.envelope import encode
from antiphon.contracts.events.session import FaultSide
from antiphon.contracts.ids import SESSION_ID_PATTERN
from antiphon.contracts.session import Status
from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import authorize, caller
from antiphon.session_api.created_session import created_response
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.instants import Instant, require_order
from antiphon.session_api.pagination import (
    LARGEST_SEQUENCE,
    Limit,
    PageCursor,
    decode_number_cursor,
    decode_page_cursor,
    encode_number_cursor,
    encode_page_cursor,
    page,
)
from antiphon.session_api.past import At, AtTime, past_session, past_turns, wanted_moment
from antiphon.session_api.problems import invalid
from antiphon.session_api.route_docs import CREATE, END, EVENTS, SESSION, SESSIONS, TOKEN, TURNS
from antiphon.session_api.sessions import ready, sse
from antiphon.session_api.sessions.filters import Reason, filter_terms
from antiphon.session_api.sessions.idempotency import idempotency_key
from antiphon.session_api.sessions.lookup import valid_session_id
from antiphon.session_api.sessions.queries import SessionsFilter
from antiphon.session_api.sessions.schemas import (
    CreateRequest,
    CreateResponse,
    EndResponse,
    StoredName,
    TokenRequest,
    TokenResponse,
)
from antiphon.session_api.streams import CountedResponse, OpenStream


class TokenRoute(ApiRoute):
    """A route that admits keys for callers and keys for supervisors; which of them is in the body."""

    other_scopes = (Scope.SUPERVISE,)


sessions = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=ApiRoute)
tokens = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=TokenRoute)

SessionId = Annotated[
    str,
    Path(
        description="the id of a session",
        examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"],
        # Only documented: an id of another form is unknown (404), like one that does not exist.
        json_schema_extra={"pattern": SESSION_ID_PATTERN},
    ),
    AfterValidator(valid_session_id),
]
EventLimit = Annotated[int, Query(ge=1, le=1000, description="the most events of a page")]
Sequence = Annotated[
    int | None,
    Query(ge=0, le=LARGEST_SEQUENCE, description="the sequence to start after; not with `cursor`"),
]
LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=LARGEST_SEQUENCE,
        description="the sequence to resume a stream after; it comes before `after` and `cursor`",
    ),
]
Wait = Annotated[
    Literal["ready"] | None, Query(description="answer when the agent is ready, or 202 at the deadline")
]
WaitSeconds = Annotated[
    int, Query(ge=1, le=ready.LONGEST_SECONDS, description="the deadline of `wait`, from now")
]


@sessions.post("", status_code=201, response_model=CreateResponse, **CREATE)
async def create_session(
    request: Request,
    body: CreateRequest,
    wait: Wait = None,
    timeout_seconds: WaitSeconds = ready.DEFAULT_SECONDS,
) -> Response:
    """Create a session and dispatch its agent; the response waits for the agent only with `wait=ready`."""
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    waited = None
    # counted before the session is created: one over the limit is refused as a whole
    with nullcontext() if wait is None else dependencies.ready.counted(request.state.key_digest, tenant):
        created = await dependencies.create.create(tenant, body, idempotency_key(request.headers))
        session_id = request.state.session_id = created.session_id
        if wait is not None and created.joinable:
            waited = await dependencies.ready.wait(request, tenant, session_id, timeout_seconds)
            created = created.reached(waited)
    waits = wait is not None and (waited is None or not ready.is_ready(waited) or waited.ended)
    return created_response(
        request, created, body, status=202 if waits else 201, greets=wait is not None, waited=waited
    )


@sessions.get("", **SESSIONS)
async def list_sessions(
    request: Request,
    status: Annotated[list[Status] | None, Query(description="may be repeated: any of them")] = None,
    flow_id: Annotated[StoredName | None, Query(description="the flow that the agent runs")] = None,
    user_id: Annotated[StoredName | None, Query(description="your identifier of the user")] = None,
    conversation_id: Annotated[
        StoredName | None, Query(description="your identifier of the conversation")
    ] = None,
    room: Annotated[StoredName | None, Query(description="the name of the LiveKit room")] = None,
    reason: Annotated[Reason | None, Query(description="why it ended")] = None,
    fault: Annotated[FaultSide | None, Query(description="the side that caused its abnormal end")] = None,
    created_after: Annotated[Instant | None, Query(description="created at this time or later")] = None,
    created_before: Annotated[Instant | None, Query(description="created before this time")] = None,
    test: Annotated[bool, Query(description="the sessions that try a flow, in place of the others")] = False,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """List sessions, newest first; all filters must hold."""
    require_order(created_after, created_before)
    wanted = SessionsFilter(
        statuses=tuple(status or ()),
        flow_id=flow_id,
        user_id=user_id,
        conversation_id=conversation_id,
        room=room,
        reason=reason,
        fault=fault,
        created_after=created_after,
        created_before=created_before,
        test=test,
        terms=filter_terms(request.query_params.multi_items()),
        after=None if cursor is None else decode_page_cursor(cursor),
    )
    found = await dependencies_of(request).views.sessions(caller(request).tenant, wanted, limit)
    more = encode_page_cursor(found.items[-1][0]) if found.more else None
    return page("sessions", (state for _, state in found.items), more)


@sessions.get("/{session_id}", **SESSION)
async def get_session(
    request: Request,
    session_id: SessionId,
    at: At = None,
    at_time: AtTime = None,
    wait: Wait = None,
    timeout_seconds: WaitSeconds = ready.DEFAULT_SECONDS,
) -> Response:
    """Return one session, computed from its events; with `at` or `at_time` as it was at that point."""
    moment = wanted_moment(at, at_time)
    if moment is not None:
        if wait is not None:
            message = "takes no at or at_time beside it: the past does not change"
            raise invalid("wait", "query", message, "not_together")
        return await past_session(request, session_id, moment)
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    if wait is None:
        return _json(await dependencies.lookup.session(tenant, session_id))
    with dependencies.ready.counted(request.state.key_digest, tenant):
        settled, session = await dependencies.ready.session(request, tenant, session_id, timeout_seconds)
    return _json(session, 200 if settled else 202)


@sessions.get("/{session_id}/turns", **TURNS)
async def list_turns(
    request: Request,
    session_id: SessionId,
    at: At = None,
    at_time: AtTime = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """List the turns of the conversation, in order; with `at` or `at_time` as they were at that point."""
    moment = wanted_moment(at, at_time)
    if moment is not None:
        return await past_turns(request, session_id, moment, cursor, limit)
    name = f"turns:{session_id}"
    after = 0 if cursor is None else decode_number_cursor(name, cursor)
    found = await dependencies_of(request).lookup.turns(caller(request).tenant, session_id, after, limit)
    more = encode_number_cursor(name, found.items[-1][0]) if found.more else None
    return page("turns", (turn for _, turn in found.items), more)


@sessions.get("/{session_id}/events", **EVENTS)
async def list_events(
    request: Request,
    session_id: SessionId,
    after: Sequence = None,
    cursor: PageCursor = None,
    limit: EventLimit = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """List the session's events in order: a page, or with `Accept: text/event-stream` a live stream."""
    name = f"events:{session_id}"
    if cursor is not None:
        if after is not None:
            message = "takes no cursor beside it: pass one of the two"
            raise invalid("after", "query", message, "not_together")
        after = decode_number_cursor(name, cursor)
    if sse.accepts_stream(",".join(request.headers.getlist("accept"))):
        resume = last_event_id if last_event_id is not None else after
        return _stream(request, caller(request), session_id, resume or 0)
    found = await dependencies_of(request).lookup.events(
        caller(request).tenant, session_id, after or 0, limit + 1
    )
    shown = found.envelopes[:limit]
    more = encode_number_cursor(name, sequence_of(shown[-1])) if found.more and shown else None
    return page("events", map(encode, shown), more)


def _stream(request: Request, key: ApiKey, session_id: str, after: int) -> Response:
    dependencies = dependencies_of(request)

    async def opened(stream: OpenStream) -> Response:
        end = await dependencies.lookup.log_end(key.tenant, session_id, after)
        if end.settled and after == end.last:
            return Response(status_code=204)  # tells an EventSource not to reconnect
        follower = dependencies.log.follower(key.tenant, session_id, after=after, announced=not end.settled)
        heartbeat = dependencies.heartbeat_seconds
        return sse.EventStream(sse.live(follower, end, heartbeat_seconds=heartbeat, stream=stream))

    return CountedResponse(dependencies.limits.streams, request.state.key_digest, key, opened)


@tokens.post("/{session_id}/token", response_model=TokenResponse, **TOKEN)
async def create_token(request: Request, session_id: SessionId, body: TokenRequest | None = None) -> Response:
    """Sign a join token for one participant: a caller, or with a `role` someone who watches the session."""
    wanted = body or TokenRequest()
    authorize(request, Scope.SESSIONS_WRITE if wanted.role is None else Scope.SUPERVISE)
    token = await dependencies_of(request).join.token(caller(request), session_id, wanted)
    return _json(token.model_dump_json())


@sessions.post("/{session_id}/end", response_model=EndResponse, **END)
async def end_session(request: Request, session_id: SessionId) -> Response:
    """End the session; repeating the request changes nothing."""
    ending = await dependencies_of(request).end.end(caller(request), session_id)
    return _json(ending.model_dump_json(), 200 if ending.ended else 202)


def _json(body: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
