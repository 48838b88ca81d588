"""Responses of /v1/keys in the OpenAPI document, each with an example."""

from typing import Any

from antiphon.session_api.components import reference
from antiphon.session_api.route_docs import BODY, answer, route

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
_REVOKED = {**_KEY, "status": "revoked", "revoked_at": "2026-11-21T10:00:00Z"}
_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "the path of the key"},
    "Cache-Control": {"schema": {"type": "string", "const": "no-store"}},
}
_CHANGE = ("unknown-key", "operator-key", "key-conflict", "broker-unavailable", *BODY)


def _created(description: str) -> dict[str, Any]:
    return answer(description, reference("CreatedKey"), _CREATED, _HEADERS)


CREATE_KEY = route(
    {201: _created("The key, with its secret, which is not shown again")},
    "foreign-tenant",
    "broker-unavailable",
    *BODY,
)
LIST_KEYS = route(
    {
        200: answer(
            "A page of keys, newest first, also of those that have ended",
            reference("KeyList"),
            {"keys": [_KEY], "next": None},
        )
    },
    "foreign-tenant",
)
GET_KEY = route({200: answer("The key", reference("KeyView"), _KEY)}, "unknown-key")
ROTATE_KEY = route({201: _created("The new key, with its secret, which is not shown again")}, *_CHANGE)
REVOKE_KEY = route(
    {200: answer("The revoked key", reference("KeyView"), _REVOKED)}, "last-admin-key", *_CHANGE
)
