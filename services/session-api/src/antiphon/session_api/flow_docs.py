"""Requests and responses of /v1/flows in the OpenAPI document, with examples."""

from typing import Any

from antiphon.session_api import examples
from antiphon.session_api.components import reference
from antiphon.session_api.flows.source import TEXT, YAML
from antiphon.session_api.route_docs import BODY, CREATE, answer, route

_SOURCE = """\
id: booking
name: Table booking
description: A restaurant's table desk
agents:
  host:
    instructions: Book tables.
    greeting: Good evening. How can I help you?
"""
_REVISION = {**examples.FLOW, "source": _SOURCE, "origin": "http"}
_DIFF = """\
--- booking@1
+++ booking@2
@@ -5,3 +5,3 @@
   host:
     instructions: Book tables.
-    greeting: Good evening. How can I help you?
+    greeting: Good evening. What can I do for you?
"""
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": 'the number of the revision, as `"3"`'}}
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "the path of the revision"}}
_WRITE = (
    "invalid-flow",
    "flow-check-unavailable",
    "broker-unavailable",
    *BODY,
)


def _text(description: str, media_type: str, example: str, of_json: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "string", "description": description}
    return {**of_json, "content": {**of_json["content"], media_type: {"schema": schema, "example": example}}}


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_ONE = {
    200: _text(
        "the source alone",
        YAML,
        _SOURCE,
        answer("A revision, with its source", reference("FlowRevision"), _REVISION, _ETAG),
    )
}
_PUT_BODY = {
    "required": True,
    "content": {
        YAML: {"schema": {"type": "string", "description": "the flow file"}, "example": _SOURCE},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["source"],
                "additionalProperties": False,
                "properties": {"source": {"type": "string", "description": "the flow file"}},
            },
            "example": {"source": _SOURCE},
        },
    },
}
PUT_FLOW = route(
    {
        200: answer("The newest revision has this source already", reference("Flow"), examples.FLOW, _ETAG),
        201: answer("A new revision", reference("Flow"), examples.FLOW, {**_ETAG, **_LOCATION}),
    },
    "flow-changed",
    *_WRITE,
    parameters=[
        _header("If-Match", "the ETag of the revision that this one replaces; else 412", '"3"'),
        _header("If-None-Match", "`*`: only if there is no such flow yet; else 412", "*"),
    ],
    requestBody=_PUT_BODY,
)
GET_FLOW = route(_ONE, "unknown-flow", "broker-unavailable")
LIST_REVISIONS = route(
    {
        200: answer(
            "A page of revisions, newest first",
            reference("FlowRevisionList"),
            {"revisions": [examples.FLOW], "next": None},
        )
    },
    "unknown-flow",
)
DIFF = route(
    {
        200: _text(
            "the unified difference alone; empty when they are the same",
            TEXT,
            _DIFF,
            answer(
                "The difference",
                reference("FlowDifference"),
                {"flow_id": "booking", "from": 1, "to": 2, "diff": _DIFF},
            ),
        )
    },
    "unknown-flow",
    "broker-unavailable",
)
TEST_AUDIO = route(
    {201: CREATE["responses"][201]},
    "unknown-flow",
    "invalid-flow",
    "flow-check-unavailable",
    "idempotency-key-expired",
    "idempotency-key-reused",
    "livekit-refused",
    "livekit-unavailable",
    "broker-unavailable",
    *BODY,
    parameters=CREATE["openapi_extra"]["parameters"],
)
