"""Responses of /v1/keys in the OpenAPI document, each with an example."""

from typing import Any

from antiphon.session_api.openapi import ERRORS, problems, reference

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
_BODY = problems(400, 413, 415, 422)
_NO_STORE = {"Cache-Control": {"schema": {"type": "string", "const": "no-store"}}}


def _ok(description: str, name: str, example: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": reference(name), "example": example}}
    return {"description": description, "content": content, **more}


def _created(description: str) -> dict[str, Any]:
    location = {"schema": {"type": "string"}, "description": "the path of the key"}
    return _ok(description, "CreatedKey", _CREATED, headers={"Location": location, **_NO_STORE})


CREATE_KEY: dict[str, Any] = {
    "responses": {
        201: _created("The key, with its secret, which is not shown again"),
        **ERRORS,
        **_BODY,
        **problems(503),
    },
}
LIST_KEYS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "A page of keys, newest first, also of those that have ended",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["keys", "next"],
                        "properties": {
                            "keys": {"type": "array", "items": reference("KeyView")},
                            "next": {"type": ["string", "null"]},
                        },
                    },
                    "example": {"keys": [_KEY], "next": None},
                }
            },
        },
        **ERRORS,
        **problems(422),
    },
}
GET_KEY: dict[str, Any] = {
    "responses": {200: _ok("The key", "KeyView", _KEY), **ERRORS, **problems(404)},
}
ROTATE_KEY: dict[str, Any] = {
    "responses": {
        201: _created("The new key, with its secret, which is not shown again"),
        **ERRORS,
        **_BODY,
        **problems(404, 409, 503),
    },
}
REVOKE_KEY: dict[str, Any] = {
    "responses": {
        200: _ok(
            "The revoked key",
            "KeyView",
            {**_KEY, "status": "revoked", "revoked_at": "2026-11-21T10:00:00Z"},
        ),
        **ERRORS,
        **_BODY,
        **problems(404, 409, 503),
    },
}
