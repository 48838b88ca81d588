"""Every route of /v1: sessions and flows."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import AfterValidator

from antiphon.chassis.log import sequence_of
from antiphon.contracts.envelope import encode
from antiphon.contracts.session import Status
from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.pagination import (
    decode_number_cursor,
    decode_page_cursor,
    encode_page_cursor,
    page,
)
from antiphon.session_api.route_docs import CREATE, END, EVENTS, FLOWS, SESSION, SESSIONS, TOKEN, TURNS
from antiphon.session_api.sessions import ready, sse
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

sessions = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=ApiRoute)
flows = APIRouter(prefix="/v1/flows", tags=["flows"], route_class=ApiRoute)

SessionId = Annotated[
    str, Path(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"]), AfterValidator(valid_session_id)
]
PageCursor = Annotated[str | None, Query(max_length=256, description="`next` of the previous page")]
Limit = Annotated[int, Query(ge=1, le=200)]
EventLimit = Annotated[int, Query(ge=1, le=1000)]
Sequence = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="the sequence to start after")]
LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=2**31 - 1, description="the sequence to resume after"),
]
Wait = Annotated[
    Literal["ready"] | None, Query(description="answer when the agent is ready, or 202 at the deadline")
]
WaitSeconds = Annotated[
    int, Query(ge=1, le=ready.LONGEST_SECONDS, description="the deadline of `wait`, from now")
]


@sessions.post("", status_code=201, response_model=CreateResponse, **CREATE)
async def create(
    request: Request,
    body: CreateRequest,
    wait: Wait = None,
    timeout_seconds: WaitSeconds = ready.DEFAULT_SECONDS,
) -> Response:
    """Create a session and dispatch its agent; the response waits for the agent only with `wait=ready`."""
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    created = await dependencies.create.create(tenant, body, idempotency_key(request.headers))
    session_id = request.state.session_id = created.session_id
    waited = None
    if wait is not None and created.joinable:
        waited = await dependencies.ready.wait(request, tenant, session_id, timeout_seconds)
        created = created.reached(waited)
    join = dependencies.join
    path = f"/v1/sessions/{session_id}"
    response = CreateResponse.model_construct(  # validated already
        session_id=session_id,
        status=created.status,
        room=session_id,
        livekit_url=join.livekit_url,
        token=join.caller_token(tenant, session_id, body) if created.joinable else None,
        greeting=None if wait is None else dependencies.create.greeting(tenant, body, waited),
        events_url=f"{_origin(request)}{path}/events",
    )
    headers = {"Location": path}
    if created.replayed:
        headers["Idempotent-Replayed"] = "true"
    waits = wait is not None and (waited is None or not ready.is_ready(waited) or waited.ended)
    return _json(response.model_dump_json(), 202 if waits else 201, headers)


@sessions.get("", **SESSIONS)
async def list_sessions(
    request: Request,
    status: Annotated[list[Status] | None, Query(description="may be repeated")] = None,
    user_id: Annotated[StoredName | None, Query()] = None,
    user: Annotated[StoredName | None, Query(description="alias of `user_id`")] = None,
    room: Annotated[StoredName | None, Query(description="the name of the LiveKit room")] = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """List sessions, newest first."""
    wanted = SessionsFilter(
        statuses=tuple(status or ()),
        user_id=user if user_id is None else user_id,
        room=room,
        after=None if cursor is None else decode_page_cursor(cursor),
    )
    found = await dependencies_of(request).views.sessions(caller(request).tenant, wanted, limit + 1)
    more = encode_page_cursor(found[limit - 1][0]) if len(found) > limit else None
    return page("sessions", (state for _, state in found[:limit]), more)


@sessions.get("/{session_id}", **SESSION)
async def get_session(
    request: Request,
    session_id: SessionId,
    wait: Wait = None,
    timeout_seconds: WaitSeconds = ready.DEFAULT_SECONDS,
) -> Response:
    """Return one session, computed from its events; with `wait=ready`, once its agent is ready."""
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    if wait is None:
        return _json(await dependencies.lookup.session(tenant, session_id))
    settled, session = await dependencies.ready.session(request, tenant, session_id, timeout_seconds)
    return _json(session, 200 if settled else 202)


@sessions.get("/{session_id}/turns", **TURNS)
async def list_turns(
    request: Request, session_id: SessionId, cursor: PageCursor = None, limit: Limit = 50
) -> Response:
    """List the turns of the conversation, in order; the one that goes on has the state `open`."""
    after = 0 if cursor is None else decode_number_cursor(cursor)
    found = await dependencies_of(request).lookup.turns(caller(request).tenant, session_id, after, limit + 1)
    more = str(found[limit - 1][0]) if len(found) > limit else None
    return page("turns", (turn for _, turn in found[:limit]), more)


@sessions.get("/{session_id}/events", **EVENTS)
async def list_events(
    request: Request,
    session_id: SessionId,
    after: Sequence = None,
    limit: EventLimit = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """Return the session's events: a page, or with `Accept: text/event-stream` a live stream."""
    if sse.MEDIA_TYPE in request.headers.get("accept", ""):
        resume = last_event_id if last_event_id is not None else after
        return await _stream(request, caller(request).tenant, session_id, resume or 0)
    found = await dependencies_of(request).lookup.events(
        caller(request).tenant, session_id, after or 0, limit + 1
    )
    shown = found.envelopes[:limit]
    more = sequence_of(shown[-1]) if found.more and shown else None
    return page("events", map(encode, shown), more)


async def _stream(request: Request, tenant: str, session_id: str, after: int) -> Response:
    dependencies = dependencies_of(request)
    ended_at = await dependencies.lookup.ended_at_sequence(tenant, session_id)
    if ended_at is not None and after >= ended_at:
        rest = await dependencies.log.read_session(tenant, session_id, after=after)
        # 204 tells an EventSource not to reconnect.
        return sse.EventStream(sse.replay(rest)) if rest else Response(status_code=204)
    events = dependencies.log.follow_session(tenant, session_id, after=after)
    return sse.EventStream(
        sse.live(events, heartbeat_seconds=dependencies.heartbeat_seconds, stopping=dependencies.stopping)
    )


@sessions.post("/{session_id}/token", response_model=TokenResponse, **TOKEN)
async def create_token(request: Request, session_id: SessionId, body: TokenRequest | None = None) -> Response:
    """Sign a join token for one participant."""
    wanted = body or TokenRequest()
    token = await dependencies_of(request).join.token(caller(request).tenant, session_id, wanted)
    return _json(token.model_dump_json())


@sessions.delete("/{session_id}", status_code=202, response_model=EndResponse, **END)
async def end_session(request: Request, session_id: SessionId) -> Response:
    """End the session; repeating the request changes nothing."""
    ending = await dependencies_of(request).end.end(caller(request), session_id)
    return _json(ending.model_dump_json(), 202)


@flows.get("", **FLOWS)
async def list_flows(request: Request) -> Response:
    """List the newest revision of every flow of the tenant."""
    found = dependencies_of(request).flows.latest(caller(request).tenant)
    return page("flows", map(msgspec.json.encode, found), None)


def _origin(request: Request) -> str:
    """Return the scheme and host of the request, as the client sent them."""
    return f"{request.scope['scheme']}://{request.headers.get('host', 'localhost')}"


def _json(body: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
