"""The route class of the API: authorize first, then read the body as strict JSON."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from antiphon.chassis.http.middleware import allow_body, bind_session
from antiphon.contracts.api_keys import Scope
from antiphon.session_api.auth import authorize
from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.query_check import query_check

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

READ_METHODS = frozenset({"GET", "HEAD"})


_maybe_large = re.compile(rb"[0-9]{19}")
# a string as a whole, or a number
_token = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_SHOWN_DIGITS = 40


def _require_64_bits(body: bytes) -> None:
    """Raise Problem 422 if valid JSON has a larger integer, which orjson would round to a float."""
    for token in _token.findall(body):
        if token[:1] == b'"' or not token.removeprefix(b"-").isdigit():
            continue
        if len(token) > 20 or not _SMALLEST <= int(token) <= _LARGEST:
            shown = token[:_SHOWN_DIGITS].decode()
            message = f"the integer {shown} has more than 64 bits: send it as a text"
            raise invalid("body", "body", message, "int_too_large")


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body; unlike the standard library, reject NaN, invalid UTF-8 and lone surrogates.

        Raises Problem: 400 for what is not JSON, 422 for an integer of more than 64 bits.
        """
        body = await self.body()
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Problem(
                400, "malformed-json", f"The body is not JSON: {error.msg}.", at_character=error.pos
            ) from error
        if _maybe_large.search(body) is not None:
            _require_64_bits(body)
        return parsed


class ApiRoute(APIRoute):
    """A route that requires an API key: with scope `sessions:read` for GET, else `sessions:write`."""

    key_scope: Scope | None = None  # of all methods, in a class of its own
    body_limit_bytes: int | None = None  # where it is more than that of others
    other_scopes: tuple[Scope, ...] = ()  # any of which does instead

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler behind the checks."""
        handle = super().get_route_handler()
        reading = (self.methods or set()) <= READ_METHODS
        scope = self.key_scope or (Scope.SESSIONS_READ if reading else Scope.SESSIONS_WRITE)
        check_query = query_check(self)

        # Before FastAPI, not one of its dependencies: the body of an unauthorized request is never read.
        async def authorized(request: Request) -> Response:
            request = _JsonRequest(request.scope, request.receive)
            authorize(request, scope, *self.other_scopes)
            if "session_id" in request.path_params:
                bind_session(request.path_params["session_id"])
            check_query(request)
            if self.body_limit_bytes is not None:
                allow_body(request, self.body_limit_bytes)
            if self.body_field is not None and not _is_json(request) and await request.body():
                raise Problem(415, "unsupported-media-type", "Send application/json.")
            return await handle(request)

        return authorized


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


class AdminRoute(ApiRoute):
    """A route that requires the scope `admin`."""

    key_scope = Scope.ADMIN


class FlowReadRoute(ApiRoute):
    """A route that shows the sources of flows."""

    key_scope = Scope.FLOWS_READ


class FlowWriteRoute(ApiRoute):
    """A route that takes the source of a flow."""

    key_scope = Scope.FLOWS_WRITE
    body_limit_bytes = 1 << 20  # a source of 512 KiB as JSON
