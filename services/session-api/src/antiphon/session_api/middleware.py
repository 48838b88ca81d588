"""Middleware for every request: trace context, a body limit, errors as problems, and one log line."""

import time
from typing import Any

import structlog
from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.chassis.tracing import continue_from
from antiphon.session_api.problems import Problem, problem_response

BODY_LIMIT_BYTES = 64 * 1024
UNLOGGED = ("/health/",)

log = structlog.get_logger(__name__)


def _too_large() -> Problem:
    return Problem(413, "content-too-large", f"Request bodies are limited to {BODY_LIMIT_BYTES // 1024} KiB.")


class RequestMiddleware:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(scope, receive, send)
        try:
            # With tracing on, FastAPI's span continues the trace; otherwise pass on the trace id only.
            traced = trace.get_current_span().get_span_context().is_valid
            with continue_from(None if traced else exchange.headers.get("traceparent")):
                await self._serve(exchange)
        finally:
            _log_request(scope, exchange.status, time.perf_counter() - started)

    async def _serve(self, exchange: "_Exchange") -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.status:
                raise  # the response has started; the server closes the connection
            if not isinstance(error, Problem):
                log.exception("http.failed", path=exchange.scope["path"])
            request = Request(exchange.scope, exchange.receive)
            await problem_response(request, error)(exchange.scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its response: limits the body, records the status."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.status = 0
        self._receive = receive
        self._send = send
        content_length = self.headers.get("content-length", "0")
        self._content_length = int(content_length) if content_length.isdigit() else 0
        self._received = 0

    async def receive(self) -> Message:
        if self._content_length > BODY_LIMIT_BYTES:
            raise _too_large()
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > BODY_LIMIT_BYTES:
            raise _too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    if scope["path"].startswith(UNLOGGED):
        return
    known: dict[str, Any] = {**scope.get("state", {}), **scope.get("path_params", {})}
    ids = {name: known[name] for name in ("tenant", "session_id") if name in known}
    route = getattr(scope.get("route"), "path", None)
    log.info(
        "http.request",
        method=scope["method"],
        route=route or "(none)",
        status=status,
        duration_ms=round(seconds * 1000, 2),
        **ids,
    )
