"""API keys: authentication (401) and authorization by scope (403)."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import cast

import msgspec
import structlog
from fastapi import Request

from antiphon.session_api.problems import Problem

log = structlog.get_logger(__name__)


class ApiKey(msgspec.Struct, frozen=True):
    """One API key, as the `keys` bucket holds it."""

    tenant: str
    name: str
    scopes: frozenset[str]
    created_at: datetime | None = None

    @property
    def actor(self) -> str:
        """The holder of the key, as events name it."""
        return f"key:{self.name}"


_decoder = msgspec.json.Decoder(ApiKey)


class Keys:
    """API keys by their SHA-256; a change in the watched `keys` bucket applies to the next request."""

    def __init__(self, bucket: Mapping[str, bytes]) -> None:
        self._bucket = bucket

    def find(self, secret: str) -> ApiKey | None:
        """Return the key with this secret, or None."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        record = self._bucket.get(digest)
        if record is None:
            return None
        try:
            return _decoder.decode(record)
        except msgspec.DecodeError as error:
            log.warning("keys.malformed", key_sha256=digest, error=str(error))
            return None


def authorize(request: Request, scope: str) -> None:
    """Authenticate the caller, store the key on the request, and require a scope.

    Raises Problem: 401 without a valid key, 403 without the scope.
    """
    key = _authenticate(request)
    request.state.key = key
    request.state.tenant = key.tenant
    if scope not in key.scopes:
        raise Problem(403, "missing-scope", f"The API key {key.name!r} lacks the scope {scope}.", scope=scope)


def caller(request: Request) -> ApiKey:
    """Return the API key of an authorized request."""
    return cast("ApiKey", request.state.key)


def _authenticate(request: Request) -> ApiKey:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise _unauthorized("missing-credentials", "Send an API key: Authorization: Bearer <key>.")
    keys: Keys = request.app.state.keys
    key = keys.find(secret.strip())
    if key is None:
        raise _unauthorized("invalid-credentials", "The API key is not known, or was revoked.")
    return key


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(401, kind, detail, headers={"WWW-Authenticate": 'Bearer realm="antiphon"'})
