"""The Idempotency-Key of a create: checked against the events of the session it created, without a table."""

import re

from starlette.datastructures import Headers

from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import Session, fold
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.sessions.events import EventReader

HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"

_key = re.compile(KEY_PATTERN)
_COMPARED = ("flow_id", "agent_name", "user_id", "language", "metadata")


def idempotency_key(headers: Headers) -> str | None:
    """Return the idempotency key of a request, or None.

    Raises Problem 422.
    """
    key = headers.get(HEADER)
    if key is not None and _key.fullmatch(key) is None:
        raise invalid(HEADER, "header", "takes 1 to 255 visible ASCII characters")
    return key


async def replayed_session(
    reader: EventReader, tenant: str, session_id: str, requested: SessionRequested
) -> Session:
    """Return the session that was created with this key, if its request was the same.

    Raises Problem: 422 for another request, 409 when the stream no longer holds the first request,
    503 when a replica of the broker does not have it yet.
    """
    events = await reader.events(tenant, session_id)
    requests = [open_event(event) for event in events if event.type == SessionRequested.TYPE]
    if not requests:
        raise _request_missing(expired=bool(events))
    differing = [name for name in _COMPARED if getattr(requests[0], name) != getattr(requested, name)]
    if differing:
        errors = [
            {"field": name, "in": "body", "message": "differs from the first request with this key"}
            for name in differing
        ]
        raise Problem(
            422,
            "idempotency-key-reused",
            "This Idempotency-Key was used with another request; use a new key for a new session.",
            errors=errors,
            session_id=session_id,
        )
    return fold(session_id, tenant, events)


def _request_missing(*, expired: bool) -> Problem:
    if expired:
        return Problem(409, "idempotency-key-expired", "This Idempotency-Key is too old to be used again.")
    return Problem(503, "broker-unavailable", "The log has not caught up; try again.", retry_after_seconds=1)
