"""What every route of the API asks first: a key that counts, its scope, and JSON if there is a body."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from antiphon.session_api.auth import authorize
from antiphon.session_api.problems import Problem

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

READING = frozenset({"GET", "HEAD"})


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body; unlike the standard parser, refuse NaN, bad UTF-8 and lone surrogates."""
        try:
            return orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            raise Problem(
                400, "malformed-json", f"The body is not JSON: {error.msg}.", at_character=error.pos
            ) from error


class ApiRoute(APIRoute):
    """A route for holders of API keys: reading takes the scope `sessions:read`, all else `sessions:write`."""

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler (see APIRoute)."""
        handle = super().get_route_handler()
        scope = "sessions:read" if (self.methods or set()) <= READING else "sessions:write"

        # Before FastAPI, not among its dependencies: no byte of a stranger's body is read.
        async def admit(request: Request) -> Response:
            request = _JsonRequest(request.scope, request.receive)
            authorize(request, scope)
            if self.body_field is not None and not _is_json(request) and await request.body():
                raise Problem(415, "unsupported-media-type", "Send application/json.")
            return await handle(request)

        return admit


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
