"""The operations on flows, as calls: publish, read, compare and try them."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec

from antiphon.client.calls import Call, as_params, decoded, given, idempotent, path_part, reading
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import CreatedSession, Flow, FlowDifference, FlowSource

PATH = "/v1/flows"
CHECK_SECONDS = 30.0  # for an agent worker to check a source

_flow = msgspec.json.Decoder(Flow)


def path_of(flow_id: str, *parts: str) -> str:
    """Return the path of a flow, or of a part of it."""
    return "/".join((PATH, path_part(flow_id), *parts))


def list_flows(
    *, limit: int | None = None, page_size: int = LARGEST_PAGE, timeout: float | None = None
) -> Listing[Flow]:
    """Iterate over the newest revision of every flow."""
    return Listing(
        path=PATH,
        noun="flows",
        read=lambda raw: decoded(_flow, raw),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def publish(
    flow_id: str,
    source: str,
    *,
    replaces: int | None = None,
    create_only: bool = False,
    timeout: float | None = None,
) -> Call[Flow]:
    """Publish the text of a flow file; return its revision, the newest one if that has the same text.

    With `replaces` only if the newest revision is this one, with `create_only` only if there is none; else it
    raises Conflict. InvalidRequest has the errors of the flow, in `problem.members["problems"]`.
    """
    headers = {} if replaces is None else {"If-Match": f'"{replaces}"'}
    if create_only:
        headers["If-None-Match"] = "*"
    return Call(
        method="PUT",
        path=path_of(flow_id),
        headers=headers,
        body={"source": source},
        parse=reading(Flow),
        timeout_seconds=timeout or CHECK_SECONDS,
        attempt_seconds=timeout or CHECK_SECONDS,
    )


def get(flow_id: str, *, revision: int | None = None, timeout: float | None = None) -> Call[FlowSource]:
    """Return a revision of a flow with its source, by default the newest."""
    parts = () if revision is None else ("revisions", str(revision))
    return Call(
        method="GET", path=path_of(flow_id, *parts), parse=reading(FlowSource), timeout_seconds=timeout
    )


def revisions(
    flow_id: str, *, limit: int | None = None, page_size: int = LARGEST_PAGE, timeout: float | None = None
) -> Listing[Flow]:
    """Iterate over the revisions of a flow, newest first."""
    return Listing(
        path=path_of(flow_id, "revisions"),
        noun="revisions",
        read=lambda raw: decoded(_flow, raw),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def diff(
    flow_id: str, *, from_: int | None = None, to: int | None = None, timeout: float | None = None
) -> Call[FlowDifference]:
    """Return the difference between two revisions: the newest and the one before, unless they are given."""
    return Call(
        method="GET",
        path=path_of(flow_id, "diff"),
        params=as_params(given(**{"from": from_, "to": to})),
        parse=reading(FlowDifference),
        timeout_seconds=timeout,
    )


def try_out(
    flow_id: str,
    *,
    source: str | None = None,
    revision: int | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    language: str | None = None,
    ttl_seconds: int | None = None,
    max_duration_seconds: int | None = None,
    can_publish_data: bool | None = None,
    idempotency_key: str | None = None,
    timeout: float | None = None,
) -> Call[CreatedSession]:
    """Create a session to try a flow by voice: the draft in `source`, a revision, or the newest one.

    No figures count it, and lists of sessions have it only with `test=True`.
    """
    return Call(
        method="POST",
        path=path_of(flow_id, "test-audio"),
        headers=idempotent(idempotency_key or uuid4().hex),
        body=given(
            source=source,
            revision=revision,
            user_id=user_id,
            metadata=metadata,
            variables=variables,
            language=language,
            ttl_seconds=ttl_seconds,
            max_duration_seconds=max_duration_seconds,
            can_publish_data=can_publish_data,
        ),
        parse=reading(CreatedSession),
        timeout_seconds=timeout or CHECK_SECONDS,
        attempt_seconds=timeout or CHECK_SECONDS,
    )
