"""Responses of each route in the OpenAPI document, each with an example."""

from typing import Any

from antiphon.session_api.openapi import ERRORS, problems, reference
from antiphon.session_api.sessions.idempotency import HEADER, KEY_PATTERN

_ID = "ses_01m7yq1we0eqq9xvayxnfetqqd"
_BASE = f"http://127.0.0.1:8000/v1/sessions/{_ID}"

_SESSION_EXAMPLE: dict[str, Any] = {
    "session_id": _ID,
    "tenant": "default",
    "status": "active",
    "sequence": 17,
    "flow_id": "booking",
    "flow_revision": 1,
    "user_id": "ada",
    "room": _ID,
    "language": "en",
    "metadata": {"order": "A-17"},
    "created_at": "2026-11-21T09:30:00Z",
    "turns": 2,
    "skipped": 0,
}
_TURN_EXAMPLE: dict[str, Any] = {
    "session_id": _ID,
    "epoch": "AJ_7rKbXyQ2mTnd",
    "turn": 1,
    "agent_id": "host",
    "state": "saved",
    "user_text": "i would like to book a table for two",
    "assistant_text": "For when?",
    "assistant_text_generated": "For when?",
    "interrupted": False,
    "recovered": False,
    "metrics": {"e2e_latency": 0.61},
}
_EVENT_EXAMPLE: dict[str, Any] = {
    "specversion": "1.0",
    "id": f"{_ID}:requested",
    "source": "/session-api",
    "type": "session.requested",
    "subject": _ID,
    "time": "2026-11-21T09:30:00.000000Z",
    "dataschema": "https://antiphon.dev/schemas/session.requested/1",
    "data": {"flow_id": "booking", "flow_revision": 1, "user_id": "ada", "room": _ID},
    "tenant": "default",
    "producer": "session-api",
    "producerseq": 0,
    "sequence": 1,
    "position": 4711,
}
_FLOW_EXAMPLE = {
    "flow_id": "booking",
    "revision": 1,
    "name": "Table booking",
    "description": "A restaurant's table desk",
    "language": "en",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": "2026-11-21T09:00:00Z",
}
_CREATED_EXAMPLE = {
    "session_id": _ID,
    "status": "dispatched",
    "room": _ID,
    "livekit_url": "ws://127.0.0.1:7880",
    "token": "eyJhbGciOiJIUzI1NiIs…",
    "events_url": f"{_BASE}/events",
}


def _json(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _page(name: str, item: str, example: Any, following: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [name, "next"],
        "properties": {
            name: {"type": "array", "items": reference(item)},
            "next": {"type": ["integer" if isinstance(following, int) else "string", "null"]},
        },
    }
    return _json(schema, {name: [example], "next": following})


_NOT_READY = "Only with `wait=ready`: the deadline has passed, or the session has ended; see its status"
_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "makes retries safe: the same key and body return the same session",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "example": "order-17",
}
CREATE: dict[str, Any] = {
    "openapi_extra": {"parameters": [_IDEMPOTENCY_KEY]},
    "responses": {
        201: {
            "description": "The session is recorded and its agent is dispatched",
            "content": {"application/json": {"example": _CREATED_EXAMPLE}},
            "headers": {
                "Location": {"schema": {"type": "string"}, "description": "the path of the session"},
                "Idempotent-Replayed": {
                    "schema": {"type": "string", "const": "true"},
                    "description": "present if an earlier request with this key created the session",
                },
            },
        },
        202: {
            "description": _NOT_READY,
            "content": _json({"$ref": "#/components/schemas/CreateResponse"}, _CREATED_EXAMPLE),
        },
        **ERRORS,
        **problems(400, 404, 409, 413, 415, 422, 502, 503),
    },
}
SESSIONS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "A page of sessions",
            "content": _page("sessions", "Session", _SESSION_EXAMPLE, "eyJjcmVhdGVkX2F0Ijoi"),
        },
        **ERRORS,
        **problems(422, 503),
    },
}
SESSION: dict[str, Any] = {
    "responses": {
        200: {"description": "The session", "content": _json(reference("Session"), _SESSION_EXAMPLE)},
        202: {"description": _NOT_READY, "content": _json(reference("Session"), _SESSION_EXAMPLE)},
        **ERRORS,
        **problems(404, 503),
    },
}
TURNS: dict[str, Any] = {
    "responses": {
        200: {"description": "A page of turns", "content": _page("turns", "TurnView", _TURN_EXAMPLE, "31")},
        **ERRORS,
        **problems(404, 422, 503),
    },
}
EVENTS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "A page of events, or a stream of them",
            "content": {
                **_page("events", "Envelope", _EVENT_EXAMPLE, 100),
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 1\nevent: session.requested\ndata: {"specversion":"1.0",…}\n\n',
                },
            },
        },
        204: {"description": "The session has ended and has no further events; do not reconnect"},
        **ERRORS,
        **problems(404, 422, 503),
    },
}
TOKEN: dict[str, Any] = {
    "responses": {**ERRORS, **problems(400, 404, 409, 413, 415, 422, 502, 503)},
}
END: dict[str, Any] = {
    "responses": {**ERRORS, **problems(404, 502, 503)},
}
_FLOWS_SCHEMA = {
    "type": "object",
    "required": ["flows", "next"],
    "properties": {"flows": {"type": "array", "items": reference("Flow")}, "next": {"type": "null"}},
}
FLOWS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The flows",
            "content": _json(_FLOWS_SCHEMA, {"flows": [_FLOW_EXAMPLE], "next": None}),
        },
        **ERRORS,
    },
}
