"""The operations on sessions, as calls."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from antiphon.client.calls import Call, Reply, as_params, decoded, given, idempotent, path_part, reading
from antiphon.client.events import SessionEvent
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import CreatedSession, Ending, JoinToken, Session, TimelineItem, Turn, Wait

PATH = "/v1/sessions"
READY_SECONDS = 10  # how long a server waits for the agent if the request does not say
ANSWER_SECONDS = 15.0  # from then to the answer
EVENTS_A_PAGE = 500

_created = msgspec.json.Decoder(CreatedSession)
_session = msgspec.json.Decoder(Session)
_turn = msgspec.json.Decoder(Turn)
_item = msgspec.json.Decoder(TimelineItem)


def path_of(session_id: str, *parts: str) -> str:
    """Return the path of a session, or of a part of it."""
    return "/".join((PATH, path_part(session_id), *parts))


def create(
    *,
    user_id: str,
    flow_id: str | None = None,
    agent_name: str | None = None,
    flow_revision: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    language: str | None = None,
    conversation_id: str | None = None,
    max_duration_seconds: int | None = None,
    ttl_seconds: int | None = None,
    can_publish_data: bool | None = None,
    idempotency_key: str | None = None,
    wait: Wait | None = None,
    wait_seconds: int | None = None,
    timeout: float | None = None,
) -> Call[CreatedSession]:
    """Create a session of a flow or of a LiveKit agent, and dispatch its agent.

    With `wait="ready"` the answer comes when the agent is ready, with its greeting, or after `wait_seconds`
    (10 by default), with the status reached. Without an idempotency key one is made, so that a request
    that is repeated after an error creates one session.
    """
    patient = _patient(wait, wait_seconds)
    return Call(
        method="POST",
        path=PATH,
        params=as_params(given(wait=wait, timeout_seconds=wait_seconds)),
        headers=idempotent(idempotency_key or uuid4().hex),
        body={
            "user_id": user_id,
            **given(
                flow_id=flow_id,
                agent_name=agent_name,
                flow_revision=flow_revision,
                metadata=metadata,
                variables=variables,
                language=language,
                conversation_id=conversation_id,
                max_duration_seconds=max_duration_seconds,
                ttl_seconds=ttl_seconds,
                can_publish_data=can_publish_data,
            ),
        },
        parse=_read_created,
        timeout_seconds=timeout or patient,
        attempt_seconds=timeout or patient,
    )


def _patient(wait: Wait | None, wait_seconds: int | None) -> float | None:
    return (wait_seconds or READY_SECONDS) + ANSWER_SECONDS if wait else None


def _read_created(reply: Reply) -> CreatedSession:
    created = decoded(_created, reply.body)
    replayed = reply.headers.get("idempotent-replayed") == "true"
    return msgspec.structs.replace(created, replayed=replayed)


def get(
    session_id: str,
    *,
    at: int | None = None,
    at_time: datetime | str | None = None,
    wait: Wait | None = None,
    wait_seconds: int | None = None,
    timeout: float | None = None,
) -> Call[Session]:
    """Return a session; with `wait="ready"` once its agent is ready, or after `wait_seconds` as it is.

    With `at` as it was after the event with that sequence; with `at_time` in its last state that nothing
    later than that time had changed. Its `sequence` says after which event that is.
    """
    patient = _patient(wait, wait_seconds)
    return Call(
        method="GET",
        path=path_of(session_id),
        params=as_params(given(at=at, at_time=at_time, wait=wait, timeout_seconds=wait_seconds)),
        parse=_read_session,
        timeout_seconds=timeout or patient,
        attempt_seconds=timeout or patient,
    )


def _read_session(reply: Reply) -> Session:
    return decoded(_session, reply.body)


def list_sessions(
    *,
    status: str | Sequence[str] | None = None,
    flow_id: str | None = None,
    user_id: str | None = None,
    conversation_id: str | None = None,
    reason: str | None = None,
    fault: str | None = None,
    room: str | None = None,
    metadata: Mapping[str, str] | None = None,
    created_after: datetime | str | None = None,
    created_before: datetime | str | None = None,
    test: bool | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[Session]:
    """Iterate over sessions, newest first; pages are read as they are needed.

    With `test` the sessions that try flows, in place of the others.

    `limit` is the most sessions in all, `page_size` the number that one request asks for, `timeout` the
    seconds for each page.
    """
    wanted = given(
        status=status if isinstance(status, str | None) else list(status),
        flow_id=flow_id,
        user_id=user_id,
        conversation_id=conversation_id,
        reason=reason,
        fault=fault,
        room=room,
        created_after=created_after,
        created_before=created_before,
    )
    wanted |= {} if test is None else {"test": "true" if test else "false"}
    wanted |= {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
    return Listing(
        path=PATH,
        noun="sessions",
        read=lambda raw: decoded(_session, raw),
        params=as_params(wanted),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def turns(
    session_id: str,
    *,
    at: int | None = None,
    at_time: datetime | str | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[Turn]:
    """Iterate over a session's turns, in order; with `at` or `at_time` as they were, as `get` does."""
    return Listing(
        path=path_of(session_id, "turns"),
        noun="turns",
        read=lambda raw: decoded(_turn, raw),
        params=as_params(given(at=at, at_time=at_time)),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def timeline(
    session_id: str, *, limit: int | None = None, page_size: int = LARGEST_PAGE, timeout: float | None = None
) -> Listing[TimelineItem]:
    """Iterate over what happened in a session, in the order in which it began."""
    return Listing(
        path=path_of(session_id, "timeline"),
        noun="timeline",
        read=lambda raw: decoded(_item, raw),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def events(
    session_id: str,
    *,
    after: int = 0,
    limit: int | None = None,
    page_size: int = EVENTS_A_PAGE,
    timeout: float | None = None,
) -> Listing[SessionEvent]:
    """Iterate over a session's committed events after a sequence, in order, to the newest of now."""
    return Listing(
        path=path_of(session_id, "events"),
        noun="events",
        read=SessionEvent.parse,
        params=as_params({"after": after}) if after else (),
        limit=limit,
        page_size=page_size,
        position=("after", lambda event: str(event.sequence)),
        timeout_seconds=timeout,
    )


def end(session_id: str, *, timeout: float | None = None) -> Call[Ending]:
    """End a session; ending it again changes nothing."""
    return Call(
        method="POST", path=path_of(session_id, "end"), parse=reading(Ending), timeout_seconds=timeout
    )


def token(
    session_id: str,
    *,
    identity: str | None = None,
    name: str | None = None,
    ttl_seconds: int | None = None,
    can_publish_data: bool | None = None,
    timeout: float | None = None,
) -> Call[JoinToken]:
    """Return a LiveKit token for one participant; `identity` is `caller` if none is given."""
    return Call(
        method="POST",
        path=path_of(session_id, "token"),
        body=given(identity=identity, name=name, ttl_seconds=ttl_seconds, can_publish_data=can_publish_data),
        parse=reading(JoinToken),
        timeout_seconds=timeout,
    )
