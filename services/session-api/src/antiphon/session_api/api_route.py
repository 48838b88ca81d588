"""The route class of the API: authorize first, then read the body as strict JSON."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from antiphon.session_api.auth import authorize
from antiphon.session_api.problems import Problem
from antiphon.session_api.query_check import query_check

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

READ_METHODS = frozenset({"GET", "HEAD"})


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body; unlike the standard library, reject NaN, invalid UTF-8 and lone surrogates."""
        try:
            return orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            raise Problem(
                400, "malformed-json", f"The body is not JSON: {error.msg}.", at_character=error.pos
            ) from error


class ApiRoute(APIRoute):
    """A route that requires an API key: with scope `sessions:read` for GET, else `sessions:write`."""

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler behind the checks."""
        handle = super().get_route_handler()
        check_query = query_check(self)
        scope = "sessions:read" if (self.methods or set()) <= READ_METHODS else "sessions:write"

        # Before FastAPI, not one of its dependencies: the body of an unauthorized request is never read.
        async def authorized(request: Request) -> Response:
            request = _JsonRequest(request.scope, request.receive)
            authorize(request, scope)
            check_query(request)
            if self.body_field is not None and not _is_json(request) and await request.body():
                raise Problem(415, "unsupported-media-type", "Send application/json.")
            return await handle(request)

        return authorized


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
