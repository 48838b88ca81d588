"""The span of a request, as OpenTelemetry's conventions of HTTP servers have it: no query, no header."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from antiphon.chassis.http.exchange import Exchange
from antiphon.chassis.tracing import TRACER, Value

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "_OTHER"  # as the conventions name a method that they do not know


@contextmanager
def server_span(exchange: Exchange) -> Iterator[None]:
    """Cover the handling of a request, to the end of its response, with a span.

    It gets its name when it ends: only then is the route known.
    """
    method = "HEAD" if exchange.is_head else exchange.scope["method"]
    known = method if method in METHODS else OTHER
    shown = "HTTP" if known == OTHER else method
    with trace.get_tracer(TRACER).start_as_current_span(
        shown, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        if not span.is_recording():
            yield
            return
        span.set_attributes(_request(exchange, known))
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            route = getattr(exchange.scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{shown} {route}")
                span.set_attribute("http.route", route)
            scope = exchange.scope
            for known in (scope.get("path_params", {}), scope.get("state", {})):
                if "session_id" in known:
                    span.set_attribute("session.id", known["session_id"])
            if exchange.status:
                span.set_attribute("http.response.status_code", exchange.status)
            if exchange.status >= 500:
                span.set_attribute("error.type", str(exchange.status))
                span.set_status(StatusCode.ERROR)


def _request(exchange: Exchange, method: str) -> dict[str, Value]:
    scope = exchange.scope
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
        "network.protocol.version": scope.get("http_version", "1.1"),
        "antiphon.request_id": exchange.request_id,
    }
    server = scope.get("server")
    if server is not None:
        attributes["server.address"], attributes["server.port"] = server[0], server[1] or 0
    return attributes
