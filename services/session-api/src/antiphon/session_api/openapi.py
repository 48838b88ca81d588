"""The OpenAPI document: FastAPI's, with the schemas of the contracts and the problem responses added."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session
from antiphon.contracts.views import TurnView
from antiphon.session_api.flows import Flow
from antiphon.session_api.problems import MEDIA_TYPE, TYPE_BASE

_COMPONENTS = "#/components/schemas/{name}"
_MEANINGS = {
    400: ("malformed-json", "The body is not JSON"),
    401: ("invalid-credentials", "The API key is missing, unknown or revoked"),
    403: ("missing-scope", "The API key lacks the required scope"),
    404: ("unknown-session", "The tenant has no such session or flow"),
    409: ("session-ended", "The session or its adopted room has ended, or the Idempotency-Key has expired"),
    413: ("content-too-large", "The body is too large"),
    415: ("unsupported-media-type", "The body is not application/json"),
    422: ("invalid-request", "A field or parameter is not valid; `errors` names it"),
    429: ("rate-limited", "Too many requests, or a quota is used up; try again after `Retry-After` seconds"),
    502: ("livekit-refused", "LiveKit refused the request; retrying does not help"),
    503: ("broker-unavailable", "A required server is unavailable; try again after `Retry-After` seconds"),
}
_PROBLEM = {
    "type": "object",
    "description": "A problem document (RFC 9457); some types have more members",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "in", "message"],
                "properties": {
                    "field": {"type": "string"},
                    "in": {"enum": ["body", "query", "path", "header"]},
                    "message": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
    },
}


def reference(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": _COMPONENTS.format(name=name)}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of the problems that a route can respond with."""
    return {status: _problem(status, *_MEANINGS[status]) for status in statuses}


def _problem(status: int, kind: str, meaning: str) -> dict[str, Any]:
    example = {
        "type": TYPE_BASE + kind,
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": meaning + ".",
        "instance": "/v1/sessions",
    }
    content = {MEDIA_TYPE: {"schema": reference("Problem"), "example": example}}
    documented: dict[str, Any] = {"description": meaning, "content": content}
    if status in {429, 503}:
        documented["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return documented


ERRORS = problems(401, 403, 429)


def install(app: FastAPI) -> None:
    """Make the app serve the complete OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's documented way


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    _, schemas = msgspec.json.schema_components((Session, TurnView, Envelope, Flow), ref_template=_COMPONENTS)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update({**schemas, "Problem": _PROBLEM})
    components["securitySchemes"] = {"ApiKey": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"ApiKey": []}]
    _drop_derived_422(document)
    return document


def _drop_derived_422(document: dict[str, Any]) -> None:
    """Remove the 422 that FastAPI adds: ours are documented, and an invalid session id is a 404."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for derived in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(derived, None)
