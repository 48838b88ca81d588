"""The same key and body is the same session: the log remembers, no table does."""

import re

from starlette.datastructures import Headers

from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import Session, fold
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.sessions.record import Record

HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"

_key = re.compile(KEY_PATTERN)
_COMPARED = ("flow_id", "user_id", "language", "metadata")


def key_in(headers: Headers) -> str | None:
    """Return the request's idempotency key, if it has one.

    Raises Problem 422.
    """
    key = headers.get(HEADER)
    if key is not None and _key.fullmatch(key) is None:
        raise invalid(HEADER, "header", "takes 1 to 255 visible ASCII characters")
    return key


async def first_request(record: Record, tenant: str, session_id: str, requested: SessionRequested) -> Session:
    """Return the session that the key already stands for, when it was asked for in the same words.

    Raises Problem: 422 for other words, 409 when the stream no longer holds the request to compare
    with, 503 when a replica of the broker has not got it yet.
    """
    events = await record.events(tenant, session_id)
    requests = [open_event(event) for event in events if event.type == SessionRequested.TYPE]
    if not requests:
        raise _nothing_to_compare(known=bool(events))
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


def _nothing_to_compare(*, known: bool) -> Problem:
    if known:
        return Problem(409, "idempotency-key-expired", "This Idempotency-Key is too old to be used again.")
    return Problem(503, "broker-unavailable", "The log has not caught up; try again.", retry_after_seconds=1)
