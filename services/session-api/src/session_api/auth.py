"""Who calls, and what the key allows: 401 without a key that counts, 403 without the scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import Depends, Request

from session_api.dependencies import dependencies_of
from session_api.keys import ApiKey
from session_api.problems import Problem

Scope = Literal["sessions:read", "sessions:write"]


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(401, kind, detail, headers={"WWW-Authenticate": 'Bearer realm="antiphon"'})


def _authenticate(request: Request) -> ApiKey:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("missing-credentials", "Send an API key: Authorization: Bearer <key>.")
    key = dependencies_of(request).keys.find(secret.strip())
    if key is None:
        raise _unauthorized("invalid-credentials", "The API key is not known, or was revoked.")
    return key


def _require(scope: Scope) -> Callable[[Request], Awaitable[ApiKey]]:
    async def authorize(request: Request) -> ApiKey:
        key = _authenticate(request)
        request.state.tenant = key.tenant
        if scope not in key.scopes:
            raise Problem(
                403, "missing-scope", f"The API key {key.name!r} lacks the scope {scope}.", scope=scope
            )
        return key

    return authorize


Reader = Annotated[ApiKey, Depends(_require("sessions:read"))]
Writer = Annotated[ApiKey, Depends(_require("sessions:write"))]
