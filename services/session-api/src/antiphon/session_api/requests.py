"""Around every request: its trace goes on, its body has a limit, its end is one log line."""

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
QUIET = ("/health/",)

log = structlog.get_logger(__name__)


def _too_large() -> Problem:
    return Problem(413, "content-too-large", f"A request body may have {BODY_LIMIT_BYTES} bytes.")


class Requests:
    """ASGI middleware; the app within answers, this one watches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        exchange = _Exchange(scope, receive, send)
        try:
            # FastAPI's own span continues the trace when tracing is on; otherwise only the id travels on.
            traced = trace.get_current_span().get_span_context().is_valid
            with continue_from(None if traced else exchange.headers.get("traceparent")):
                await self._serve(exchange)
        finally:
            _note(scope, exchange.status, time.perf_counter() - began)

    async def _serve(self, exchange: "_Exchange") -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.status:
                raise  # half an answer is out; the server closes the connection
            if not isinstance(error, Problem):
                log.exception("http.failed", path=exchange.scope["path"])
            request = Request(exchange.scope, exchange.receive)
            await problem_response(request, error)(exchange.scope, exchange.receive, exchange.send)


class _Exchange:
    """Count the bytes of one request and remember the status of its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.status = 0
        self._receive = receive
        self._send = send
        announced = self.headers.get("content-length", "0")
        self._announced = int(announced) if announced.isdigit() else 0
        self._received = 0

    async def receive(self) -> Message:
        if self._announced > BODY_LIMIT_BYTES:
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


def _note(scope: Scope, status: int, seconds: float) -> None:
    if scope["path"].startswith(QUIET):
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
