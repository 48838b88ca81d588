"""Read JSON bodies strictly: the right media type, real JSON, and a clear answer otherwise."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from session_api.problems import Problem

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body; unlike the standard parser, refuse NaN, bad UTF-8 and lone surrogates."""
        try:
            return orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            raise Problem(
                400, "malformed-json", f"The body is not JSON: {error.msg}.", at_character=error.pos
            ) from error


class JsonRoute(APIRoute):
    """A route that takes JSON or no body at all."""

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler (see APIRoute)."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            request = _JsonRequest(request.scope, request.receive)
            if self.body_field is not None and not _is_json(request) and await request.body():
                raise Problem(415, "unsupported-media-type", "Send application/json.")
            return await handle(request)

        return strictly


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
