"""/v1/flows: what agents can be asked to do."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from antiphon.session_api.api_route import ApiRoute
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.openapi import ERRORS, reference

router = APIRouter(prefix="/v1/flows", tags=["flows"], route_class=ApiRoute)

_EXAMPLE = {
    "flow_id": "booking",
    "revision": 1,
    "name": "Table booking",
    "description": "A restaurant's table desk",
    "language": "en",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": "2026-11-21T09:00:00Z",
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["flows", "next"],
    "properties": {"flows": {"type": "array", "items": reference("Flow")}, "next": {"type": "null"}},
}
_CONTENT = {"application/json": {"schema": _SCHEMA, "example": {"flows": [_EXAMPLE], "next": None}}}


@router.get("", responses={200: {"description": "The flows", "content": _CONTENT}, **ERRORS})
async def list_flows(request: Request) -> Response:
    """List the newest revision of every flow of the tenant."""
    flows = dependencies_of(request).flows.latest(caller(request).tenant)
    return Response(msgspec.json.encode({"flows": flows, "next": None}), media_type="application/json")
