"""Who calls, and what the key allows: 401 without a key that counts, 403 without the scope."""

from typing import cast

from fastapi import Request

from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.keys import ApiKey
from antiphon.session_api.problems import Problem


def authorize(request: Request, scope: str) -> None:
    """Find the caller's key and note it on the request.

    Raises Problem: 401 without a key that counts, 403 when it lacks the scope.
    """
    key = _authenticate(request)
    request.state.key = key
    request.state.tenant = key.tenant
    if scope not in key.scopes:
        raise Problem(403, "missing-scope", f"The API key {key.name!r} lacks the scope {scope}.", scope=scope)


def caller(request: Request) -> ApiKey:
    """Return the key of the caller of an authorized request."""
    return cast("ApiKey", request.state.key)


def _authenticate(request: Request) -> ApiKey:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise _unauthorized("missing-credentials", "Send an API key: Authorization: Bearer <key>.")
    key = dependencies_of(request).keys.find(secret.strip())
    if key is None:
        raise _unauthorized("invalid-credentials", "The API key is not known, or was revoked.")
    return key


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(401, kind, detail, headers={"WWW-Authenticate": 'Bearer realm="antiphon"'})
