"""The routes of /v1/flows: publish a flow, read its revisions, compare them, and try one by voice."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator

from antiphon.chassis.http.middleware import extend_deadline
from antiphon.contracts.flows import FLOW_ID_PATTERN, FlowRevision, is_flow_id
from antiphon.session_api.api_route import ApiRoute, FlowReadRoute, FlowWriteRoute
from antiphon.session_api.auth import actor_of, caller
from antiphon.session_api.created_session import created_response
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.flow_docs import DIFF, GET_FLOW, LIST_REVISIONS, PUT_FLOW, TEST_AUDIO
from antiphon.session_api.flows.difference import FlowDifference, difference
from antiphon.session_api.flows.preconditions import etag_of, precondition_of
from antiphon.session_api.flows.source import JSON, TEXT, YAML, preferred, source_of
from antiphon.session_api.flows.store import shown
from antiphon.session_api.pagination import (
    Limit,
    PageCursor,
    decode_name_cursor,
    decode_number_cursor,
    encode_name_cursor,
    encode_number_cursor,
    fitting,
    page,
)
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.route_docs import FLOWS
from antiphon.session_api.sessions.create import Version
from antiphon.session_api.sessions.idempotency import idempotency_key
from antiphon.session_api.sessions.schemas import CreateResponse
from antiphon.session_api.sessions.trial import TrialRequest

LARGEST_REVISION = 2**31 - 1

flows = APIRouter(prefix="/v1/flows", tags=["flows"], route_class=ApiRoute)
sources = APIRouter(prefix="/v1/flows", tags=["flows"], route_class=FlowReadRoute)
publishing = APIRouter(prefix="/v1/flows", tags=["flows"], route_class=FlowWriteRoute)


def _unknown(flow_id: str) -> Problem:
    return Problem(404, "unknown-flow", f"There is no flow {flow_id[:64]!r}.", flow_id=flow_id[:64])


def valid_flow_id(flow_id: str) -> str:
    """Return the id.

    Raises Problem 404 for a text that cannot be one: it must not become part of a key.
    """
    if not is_flow_id(flow_id):
        raise _unknown(flow_id)
    return flow_id


FlowId = Annotated[
    str,
    Path(
        description="the id of a flow: lower-case letters, digits and -",
        examples=["booking"],
        # Only documented: an id of another form is unknown (404), like one that does not exist.
        json_schema_extra={"pattern": FLOW_ID_PATTERN},
    ),
    AfterValidator(valid_flow_id),
]
Revision = Annotated[int, Path(ge=1, le=LARGEST_REVISION, description="the number of a revision")]
From = Annotated[
    int | None,
    Query(alias="from", ge=1, le=LARGEST_REVISION, description="by default the one before `to`"),
]
To = Annotated[int | None, Query(ge=1, le=LARGEST_REVISION, description="by default the newest")]


@flows.get("", **FLOWS)
async def list_flows(request: Request, cursor: PageCursor = None, limit: Limit = 50) -> Response:
    """List the newest revision of every flow, by id."""
    after = None if cursor is None else decode_name_cursor("flows", cursor)
    found = dependencies_of(request).flows.latest(caller(request).tenant)
    found = [flow for flow in found if after is None or flow.flow_id > after]
    items = fitting(map(msgspec.json.encode, found), limit)
    more = encode_name_cursor("flows", found[len(items) - 1].flow_id) if len(found) > len(items) else None
    return page("flows", items, more)


@publishing.put("/{flow_id}", **PUT_FLOW)
async def put_flow(request: Request, flow_id: FlowId) -> Response:
    """Publish a flow: a new immutable revision, unless the newest one has the same source.

    An agent worker checks the flow. Sessions that run stay with their revision.
    """
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    precondition = precondition_of(request.headers)
    source = await source_of(request)
    extend_deadline(request, dependencies.flow_store.check_seconds)
    store, by = dependencies.flow_store, actor_of(request)
    record, new = await store.publish(tenant, flow_id, source, precondition, by)
    headers = {"ETag": etag_of(record.revision)}
    if new:
        headers["Location"] = f"/v1/flows/{flow_id}/revisions/{record.revision}"
    body = msgspec.json.encode(shown(record))
    return Response(body, 201 if new else 200, headers, JSON)


@sources.get("/{flow_id}", **GET_FLOW)
async def get_flow(request: Request, flow_id: FlowId) -> Response:
    """Return the newest revision of a flow, with its source; with `Accept: application/yaml` that alone."""
    newest = dependencies_of(request).flows.latest_revision(caller(request).tenant, flow_id)
    if newest is None:
        raise _unknown(flow_id)
    return await _one(request, flow_id, newest)


@sources.get("/{flow_id}/revisions", **LIST_REVISIONS)
async def list_revisions(
    request: Request, flow_id: FlowId, cursor: PageCursor = None, limit: Limit = 50
) -> Response:
    """List the revisions of a flow, newest first, without their sources."""
    name = f"revisions:{flow_id}"
    before = None if cursor is None else decode_number_cursor(name, cursor)
    known, tenant = dependencies_of(request).flows, caller(request).tenant
    if known.latest_revision(tenant, flow_id) is None:
        raise _unknown(flow_id)
    found = known.revisions(tenant, flow_id, before, limit)
    items = fitting(map(msgspec.json.encode, found), limit)
    last = found[len(items) - 1].revision if items else 1
    return page("revisions", items, encode_number_cursor(name, last) if last > 1 else None)


@sources.get("/{flow_id}/revisions/{revision}", **GET_FLOW)
async def get_revision(request: Request, flow_id: FlowId, revision: Revision) -> Response:
    """Return a revision of a flow, with its source; with `Accept: application/yaml` that alone."""
    return await _one(request, flow_id, revision)


@sources.get("/{flow_id}/diff", **DIFF)
async def diff_flow(request: Request, flow_id: FlowId, from_: From = None, to: To = None) -> Response:
    """Return the difference between two revisions; with `Accept: text/plain` as text alone."""
    newest = dependencies_of(request).flows.latest_revision(caller(request).tenant, flow_id)
    if newest is None:
        raise _unknown(flow_id)
    to = to or newest
    from_ = from_ or max(1, to - 1)
    old = await _stored(request, flow_id, from_)
    new = old if to == from_ else await _stored(request, flow_id, to)
    text = await asyncio.to_thread(_compared, old, new)
    headers = {"Vary": "Accept"}
    if preferred(request.headers.get("accept", ""), TEXT) == TEXT:
        return Response(text, 200, headers, TEXT)
    found = FlowDifference(flow_id=flow_id, from_=from_, to=to, diff=text)
    return Response(msgspec.json.encode(found), 200, headers, JSON)


@publishing.post("/{flow_id}/test-audio", status_code=201, response_model=CreateResponse, **TEST_AUDIO)
async def try_flow(request: Request, flow_id: FlowId, body: TrialRequest | None = None) -> Response:
    """Create a session to try a flow by voice: a draft in `source`, a revision, or the newest one.

    It is marked as a test, and no figures count it. A draft is checked as a flow that is published is, and is
    kept for two days.
    """
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    wanted = body or TrialRequest()
    create = wanted.as_create(flow_id)
    if wanted.source is not None:
        if wanted.revision is not None:
            raise invalid("revision", "body", "takes no source beside it", "not_together")
        extend_deadline(request, dependencies.flow_store.check_seconds)
        draft = await dependencies.flow_store.draft(tenant, flow_id, wanted.source)
        version = Version(0, draft.requires, draft.sha256, test=True)
    else:
        published = dependencies.create.version(tenant, create)
        version = Version(published.revision, published.requires, test=True)
    created = await dependencies.create.create(tenant, create, idempotency_key(request.headers), version)
    return created_response(request, created, create)


async def _one(request: Request, flow_id: str, revision: int) -> Response:
    headers = {"ETag": etag_of(revision), "Vary": "Accept"}
    record = await _stored(request, flow_id, revision)
    if _is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if preferred(request.headers.get("accept", ""), YAML) == YAML:
        return Response(record.source, 200, headers, YAML)
    return Response(msgspec.json.encode(record), 200, headers, JSON)


def _is_known(if_none_match: str, etag: str) -> bool:
    given = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return "*" in given or etag in given


async def _stored(request: Request, flow_id: str, revision: int) -> FlowRevision:
    tenant = caller(request).tenant
    record = await dependencies_of(request).flow_store.revision(tenant, flow_id, revision)
    if record is None:
        detail = f"The flow {flow_id!r} has no revision {revision}."
        raise Problem(404, "unknown-flow", detail, flow_id=flow_id, flow_revision=revision)
    return record


def _compared(old: FlowRevision, new: FlowRevision) -> str:
    names = (f"{one.flow_id}@{one.revision}" for one in (old, new))
    return difference(old.source, new.source, *names)
