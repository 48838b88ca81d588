"""Responses of /v1/keys in the OpenAPI document, each with an example."""

from collections.abc import Mapping
from typing import Any

from antiphon.session_api.components import reference
from antiphon.session_api.route_docs import Node, answer, problems

_KEY: dict[str, Any] = {
    "id": "key_01m7yq1we0eqq9xvayxnfetqqd",
    "tenant": "default",
    "name": "ci",
    "prefix": "ak_3vXq0",
    "scopes": ["sessions:read", "sessions:write"],
    "status": "active",
    "operator": False,
    "created_at": "2026-11-21T09:30:00Z",
    "expires_at": "2027-11-21T09:30:00Z",
    "revoked_at": None,
    "last_used_at": "2026-11-21T09:41:00Z",
    "rotated_from": None,
    "replaced_by": None,
    "limits": None,
}
_CREATED = {**_KEY, "last_used_at": None, "secret": "ak_3vXq0lRkWm2uYdJ7s0o5pHcQ1tZbNfAeVxGiKg48"}
_BODY = ("malformed-json", "content-too-large", "unsupported-media-type", "invalid-request")
_NO_STORE = {"Cache-Control": {"schema": {"type": "string", "const": "no-store"}}}
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "the path of the key"}}


def _created(description: str) -> Node:
    return answer(description, reference("CreatedKey"), _CREATED, {**_LOCATION, **_NO_STORE})


def _route(answers: Mapping[int, Node], *names: str) -> Node:
    return {"responses": {**answers, **problems(*names)}}


CREATE_KEY = _route(
    {201: _created("The key, with its secret, which is not shown again")},
    "foreign-tenant",
    "missing-scope",
    *_BODY,
    "broker-unavailable",
)
LIST_KEYS = _route(
    {
        200: answer(
            "A page of keys, newest first, also of those that have ended",
            reference("KeyList"),
            {"keys": [_KEY], "next": None},
        )
    },
    "foreign-tenant",
    "missing-scope",
    "invalid-request",
)
GET_KEY = _route({200: answer("The key", reference("KeyView"), _KEY)}, "unknown-key", "invalid-request")
ROTATE_KEY = _route(
    {201: _created("The new key, with its secret, which is not shown again")},
    "operator-key",
    "missing-scope",
    "unknown-key",
    "key-conflict",
    *_BODY,
    "broker-unavailable",
)
_REVOKED = {**_KEY, "status": "revoked", "revoked_at": "2026-11-21T10:00:00Z"}
REVOKE_KEY = _route(
    {200: answer("The revoked key", reference("KeyView"), _REVOKED)},
    "operator-key",
    "missing-scope",
    "unknown-key",
    "key-conflict",
    "last-admin-key",
    *_BODY,
    "broker-unavailable",
)
