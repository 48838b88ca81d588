"""What all OpenAI doubles have in common: the key, the format of errors, and server-sent events."""

import json
from typing import Any

from aiohttp import web
from tests.doubles.faults import Pieces, nonsense
from tests.doubles.server import Double, Refused

_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("request_forbidden", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
}


class OpenAIDouble(Double):
    """An OpenAI API: bearer key, errors as `{"error": {message, type, param, code}}`."""

    def authorize(self, request: web.Request) -> None:
        """Raise Refused without the right bearer key."""
        given = request.headers.get("Authorization", "")
        if not given:
            raise Refused(401, "You didn't provide an API key.", "missing_api_key")
        if given != f"Bearer {self.key}":
            raise Refused(401, "Incorrect API key provided.", "invalid_api_key")

    def error(self, refused: Refused) -> web.Response:
        """Return OpenAI's error object."""
        return web.json_response(
            {"error": error_object(refused)},
            status=refused.status,
            headers={"x-request-id": f"req_{len(self.received)}"},
        )


def error_object(refused: Refused) -> dict[str, Any]:
    """Return the object under `error`."""
    kind, code = _ERRORS.get(refused.status, ("server_error", None))
    return {
        "message": refused.message,
        "type": kind,
        "param": refused.param,
        "code": refused.code or code,
    }


def required(body: dict[str, Any], name: str, kind: type) -> Any:
    """Return a field that must be there, or raise Refused as OpenAI words it."""
    if name == "model" and not body.get("model"):
        raise Refused(400, "you must provide a model parameter")
    if name not in body:
        raise Refused(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    if not isinstance(body[name], kind):
        raise Refused(400, f"Invalid type for '{name}'.", "invalid_type", name)
    return body[name]


class EventStream:
    """An answer of server-sent events, each with JSON data."""

    def __init__(self, request: web.Request, pieces: Pieces) -> None:
        self._request = request
        self._pieces = pieces
        self._response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "x-request-id": "req_stream"}
        )

    async def send(self, data: dict[str, Any] | str, event: str | None = None) -> None:
        """Send one event; the first one sends the headers."""
        await self._pieces.before()
        if not self._response.prepared:
            await self._response.prepare(self._request)
        text = nonsense(self._pieces.fault)
        if text is None:
            text = data if isinstance(data, str) else json.dumps(data)
        name = f"event: {event}\n" if event else ""
        await self._response.write(f"{name}data: {text}\n\n".encode())

    async def end(self) -> web.StreamResponse:
        """Finish the answer."""
        await self._response.write_eof()
        return self._response
