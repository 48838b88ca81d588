"""The middleware of every request: id, deadline, errors as problems, methods, and one log line."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from antiphon.chassis.http.deadline import Deadline
from antiphon.chassis.http.exchange import Exchange, HttpPolicy, Service
from antiphon.chassis.http.metrics import METHODS, UNMATCHED, duration, requests_in_progress
from antiphon.chassis.http.problem import Problem
from antiphon.chassis.http.request_id import new_request_id
from antiphon.chassis.http.routing import allowed_methods
from antiphon.chassis.http.server_span import server_span
from antiphon.chassis.metrics import OTHER
from antiphon.chassis.tracing import continue_from, enabled

UNLOGGED = ("/health/", "/metrics")  # nor measured
CLIENT_GONE = 499  # in the log: the client left before the response

# what `structlog.contextvars.bind_contextvars` sets, at a tenth of its cost
_request_id: ContextVar[str] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")

_session_id: ContextVar[object] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}session_id")

log = structlog.get_logger(__name__)

ToResponse = Callable[[Request, Exception], Response]


class RequestMiddleware:
    """ASGI middleware around an application; `to_response` turns an error into a problem document.

    It goes outermost: what other middlewares raise becomes a problem too.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policy: HttpPolicy,
        routes: Sequence[BaseRoute],
        to_response: ToResponse,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        self._app = app
        self._policy = policy
        self._service = Service(policy, routes, policy.fixed_headers(), new_id)
        self._to_response = to_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        exchange = state["exchange"] = Exchange(self._service, scope, receive, send)
        state["request_id"] = exchange.request_id
        method = scope["method"] if scope["method"] in METHODS else OTHER
        requests_in_progress[method] += 1
        token = _request_id.set(exchange.request_id)  # into every log line of the request
        _session_id.set(...)  # what structlog takes for none
        given = exchange.headers.get(b"traceparent")
        traced = enabled() and not scope["path"].startswith(UNLOGGED)
        try:
            # also without spans of our own, so that events have the client's trace
            with (
                continue_from(None if given is None else given.decode("latin-1")),
                server_span(exchange, method) if traced else nullcontext(),
            ):
                try:
                    await self._serve(exchange)
                finally:
                    seconds = time.perf_counter() - started
                    _log_request(exchange.scope, scope["method"], exchange.status, seconds)
        finally:
            requests_in_progress[method] -= 1
            _measure(exchange, method, (exchange.stream_started_at or time.perf_counter()) - started)
            _request_id.reset(token)
            del state["exchange"]  # no cycle: else each request is work for the garbage collector

    async def _serve(self, exchange: Exchange) -> None:
        body_seconds = self._policy.body_seconds if exchange.has_body else 0.0
        deadline = exchange.deadline = Deadline(self._policy.deadline_seconds + body_seconds)
        try:
            with deadline:
                if exchange.scope["method"] == "OPTIONS":
                    await self._options(exchange)(exchange.scope, exchange.receive, exchange.send)
                else:
                    await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_GONE
        except Exception as error:
            if exchange.status:
                raise  # the response has started; the server closes the connection
            exchange.deadline = None
            request = Request(exchange.scope, exchange.receive)
            response = self._to_response(request, self._too_late() if deadline.expired else error)
            if response.status_code == 500:
                log.exception("http.failed", path=exchange.scope["path"])
            await response(exchange.scope, exchange.receive, exchange.send)

    def _options(self, exchange: Exchange) -> Response:
        allowed = allowed_methods(self._service.routes, exchange.scope)
        if not allowed:
            raise Problem(404, "not-found", "Not Found")
        response = Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        if b"access-control-request-method" in exchange.headers:
            origin = exchange.headers.get(b"origin")
            response.raw_headers += self._policy.cors.preflight(origin, allowed)
        return response

    def _too_late(self) -> Problem:
        return Problem(
            503,
            "deadline-exceeded",
            f"No answer within {self._policy.deadline_seconds:g} s: a required server is slow or away. The "
            "request may still take effect; to repeat a create safely, send the same Idempotency-Key.",
            retry_after_seconds=self._policy.retry_after_seconds,
        )


def extend_deadline(request: Request, seconds: float) -> None:
    """Give a request that waits on purpose this many seconds more than the deadline, from now on."""
    exchange: Exchange = request.scope["state"]["exchange"]
    exchange.start_deadline(seconds)


def bind_session(session_id: str) -> None:
    """Add the id of the session that a request is about to its log lines from now on."""
    _session_id.set(session_id)


def allow_body(request: Request, limit_bytes: int) -> None:
    """Let this request have a larger body than others."""
    exchange: Exchange = request.scope["state"]["exchange"]
    exchange.body_limit_bytes = limit_bytes


def _measure(exchange: Exchange, method: str, seconds: float) -> None:
    if exchange.scope["path"].startswith(UNLOGGED):
        return
    route = getattr(exchange.scope.get("route"), "path", UNMATCHED)
    duration.record(seconds, method, route, str(exchange.status))


def _log_request(scope: Scope, method: str, status: int, seconds: float) -> None:
    if scope["path"].startswith(UNLOGGED):
        return
    ids = {}
    for known in (scope.get("state", ()), scope.get("path_params", ())):
        for name in ("tenant", "session_id"):
            if name in known:
                ids[name] = known[name]
    route = getattr(scope.get("route"), "path", None)
    log.info(
        "http.request",
        method=method,
        route=route or "(none)",
        status=status,
        duration_ms=round(seconds * 1000, 2),
        **ids,
    )
