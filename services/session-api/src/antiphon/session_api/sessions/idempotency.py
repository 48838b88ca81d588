"""The Idempotency-Key of a create: checked against the events of the session it created, without a table."""

import asyncio
import re
from collections.abc import Callable
from typing import Protocol

import structlog
from starlette.datastructures import Headers

from antiphon.chassis.database import DatabaseUnavailable
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import Session, fold
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.sessions.events import EventReader

HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"

_key = re.compile(KEY_PATTERN)
_COMPARED = (
    "flow_id",
    "flow_revision",
    "agent_name",
    "user_id",
    "language",
    "metadata",
    "conversation_id",
    "variables",
    "max_duration_seconds",
    "ttl_seconds",
    "test",
    "flow_draft",
)

VIEW_SECONDS = 0.4  # a create needs no Postgres, and does not wait longer for it
VIEW_PAUSE_SECONDS = 5.0  # without questions to a Postgres that did not answer

log = structlog.get_logger(__name__)


def idempotency_key(headers: Headers) -> str | None:
    """Return the idempotency key of a request, or None.

    Raises Problem 422.
    """
    key = headers.get(HEADER)
    if key is not None and _key.fullmatch(key) is None:
        raise invalid(HEADER, "header", "takes 1 to 255 visible ASCII characters", "value_error")
    return key


class Views(Protocol):
    """The part of the views that tells which sessions there are."""

    async def has_session(self, tenant: str, session_id: str) -> bool:
        """Return whether the session is in the view; raises DatabaseUnavailable."""


class KnownSessions:
    """The sessions in the views, which keep them longer than the stream does."""

    def __init__(self, views: Views, *, now: Callable[[], float]) -> None:
        self._views = views
        self._now = now
        self._ask_again_at = float("-inf")
        self._late: set[asyncio.Task[bool]] = set()  # ended by the deadlines of the pool

    async def has(self, tenant: str, session_id: str) -> bool:
        """Return whether the view has the session; False when Postgres does not answer soon."""
        if self._now() < self._ask_again_at:
            return False
        # Not asyncio.timeout: giving a connection back may take as long as the answer of a hanging server.
        asking = asyncio.create_task(self._views.has_session(tenant, session_id), name="known-session")
        self._late.add(asking)
        asking.add_done_callback(self._forget)
        await asyncio.wait([asking], timeout=VIEW_SECONDS)
        if asking.done() and not isinstance(asking.exception(), DatabaseUnavailable):
            return asking.result()
        self._ask_again_at = self._now() + VIEW_PAUSE_SECONDS
        reason = str(asking.exception()) if asking.done() else f"no answer within {VIEW_SECONDS:g} s"
        log.warning("idempotency.view_unavailable", error=reason)
        asking.cancel()
        return False

    def _forget(self, asking: "asyncio.Task[bool]") -> None:
        self._late.discard(asking)
        if not asking.cancelled():
            asking.exception()  # else asyncio logs that nobody asked for it


async def replayed_session(
    reader: EventReader,
    tenant: str,
    session_id: str,
    requested: SessionRequested,
    *,
    known: bool = False,
    any_revision: bool = False,
) -> Session:
    """Return the session that was created with this key, if its request was the same.

    `known` tells that the view has the session. With `any_revision` the revision of the flow may differ: the
    request names none, and there may be a newer one since.

    Raises Problem: 422 for another request, 409 when the stream no longer holds the first request,
    503 when a replica of the broker does not have it yet.
    """
    events = await reader.events(tenant, session_id)
    requests = [open_event(event) for event in events if event.type == SessionRequested.TYPE]
    if not requests:
        raise _request_missing(session_id, expired=known or bool(events))
    differing = [name for name in _COMPARED if getattr(requests[0], name) != getattr(requested, name)]
    if any_revision and "flow_id" not in differing and "flow_revision" in differing:
        differing.remove("flow_revision")
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


def _request_missing(session_id: str, *, expired: bool) -> Problem:
    if expired:
        return Problem(
            409,
            "idempotency-key-expired",
            "This Idempotency-Key is too old to be used again; use a new key for a new session.",
            session_id=session_id,
        )
    return Problem(503, "broker-unavailable", "The log has not caught up; try again.", retry_after_seconds=1)
