"""Authentication by API key before a request's body is read (401), and authorization by scope (403)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon.chassis.tracing import current_traceparent
from antiphon.contracts.api_keys import ApiKey
from antiphon.contracts.audit import Actor
from antiphon.session_api.keys.records import KeyRecord, Keys
from antiphon.session_api.keys.usage import KeyUsage
from antiphon.session_api.limits import RateLimit, rate_limited
from antiphon.session_api.problems import Problem

PROTECTED = "/v1/"


class AuthMiddleware:
    """ASGI middleware that lets requests of /v1 in with a valid API key only.

    It puts `key`, `key_digest` and `tenant` on the request's state. Failures are limited per client address,
    and a valid key is let in from any address: clients behind one proxy share theirs.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        usage: KeyUsage,
        failures: RateLimit,
        clock: Callable[[], datetime],
    ) -> None:
        self._app = app
        self._keys = keys
        self._usage = usage
        self._failures = failures
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate one request.

        Raises Problem: 401 without a valid key, 429 after too many of them.
        """
        # OPTIONS says which methods there are, not more, and a browser sends it without a key.
        if (
            scope["type"] == "http"
            and f"{scope['path']}/".startswith(PROTECTED)
            and scope["method"] != "OPTIONS"
        ):
            self._admit(scope)
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        try:
            record = self._authenticate(scope)
        except Problem:
            address = (scope.get("client") or ("unknown",))[0]
            standing = self._failures.hit(address)
            if standing is not None and not standing.allowed:
                raise rate_limited(standing, "Too many requests without a valid API key.") from None
            raise
        state = scope.setdefault("state", {})
        state["key"], state["key_digest"], state["tenant"] = record.key, record.digest, record.key.tenant

    def _authenticate(self, scope: Scope) -> KeyRecord:
        record = self._keys.find(_secret(scope))
        if record is None:
            raise _unauthorized("invalid-credentials", "The API key is not known, or was revoked.")
        if record.key.revoked_at is not None:
            raise _unauthorized("invalid-credentials", "The API key was revoked.")
        now = self._clock()
        if record.key.expired(now):
            raise _unauthorized("expired-credentials", "The API key has expired.")
        self._usage.touch(record.digest, now)
        return record


def _secret(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer" and (secret := secret.strip()):
                return cast("str", secret)
            break
    raise _unauthorized("missing-credentials", "Send an API key: Authorization: Bearer <key>.")


def authorize(request: Request, scope: str, *others: str) -> None:
    """Require a scope of the request's key, or one of the others.

    Raises Problem: 403 without the scope, 401 without a key.
    """
    state: dict[str, Any] = request.scope.get("state", {})
    key: ApiKey | None = state.get("key")
    if key is None:
        raise _unauthorized("missing-credentials", "Send an API key: Authorization: Bearer <key>.")
    if key.scopes.isdisjoint((scope, *others)):
        wanted = " or ".join((scope, *others))
        raise Problem(
            403, "missing-scope", f"The API key {key.name!r} lacks the scope {wanted}.", scope=scope
        )


def caller(request: Request) -> ApiKey:
    """Return the API key of an authorized request."""
    return cast("ApiKey", request.state.key)


def actor_of(request: Request) -> Actor:
    """Return who acts by an authorized request, and from where, for the audit record of the act."""
    traceparent = current_traceparent()
    return Actor(
        name=f"key:{caller(request).id}",
        operator=caller(request).operator,
        address=None if request.client is None else request.client.host,
        request_id=request.state.request_id,
        trace_id=None if traceparent is None else traceparent.split("-")[1],
    )


def ended_during_request() -> Problem:
    """Return the problem for a key that was revoked or expired while its request waited."""
    return _unauthorized("invalid-credentials", "The API key was revoked or has expired since.")


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(401, kind, detail, headers={"WWW-Authenticate": 'Bearer realm="antiphon"'})
