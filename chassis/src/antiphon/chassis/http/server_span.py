"""The span of a request, as OpenTelemetry's conventions of HTTP servers have it: no query, no header."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from antiphon.chassis import tracing
from antiphon.chassis.http.exchange import Exchange
from antiphon.chassis.metrics import OTHER
from antiphon.chassis.tracing import TRACER, Value


def server_span(exchange: Exchange, method: str) -> AbstractContextManager[None]:
    """Return a span for the handling of a request, to the end of its response, if its trace is recorded.

    `method` is that of the request, or OTHER.
    """
    client = trace.get_current_span().get_span_context()
    if client.is_valid and not client.trace_flags.sampled:
        return nullcontext()
    shown = "HTTP" if method == OTHER else method
    if client.is_valid:
        # any client can say that it records its trace, also one that is not let in
        if tracing.goes_on_here is not None and not tracing.goes_on_here(shown):
            return tracing.unrecorded(f"{client.trace_id:032x}")
    elif tracing.begins_here is not None and not tracing.begins_here(shown):
        return tracing.unrecorded()
    return _recorded(exchange, shown, method)


@contextmanager
def _recorded(exchange: Exchange, shown: str, method: str) -> Iterator[None]:
    """Cover the block with a span, which gets its name when it ends: only then is the route known."""
    with trace.get_tracer(TRACER).start_as_current_span(
        shown, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        span.set_attributes(_request(exchange, method))
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            _show_response(span, exchange, shown)


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


def _show_response(span: trace.Span, exchange: Exchange, shown: str) -> None:
    scope = exchange.scope
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        span.update_name(f"{shown} {route}")
        span.set_attribute("http.route", route)
    for known in (scope.get("path_params", {}), scope.get("state", {})):
        if "session_id" in known:
            span.set_attribute("session.id", known["session_id"])
    if exchange.status:
        span.set_attribute("http.response.status_code", exchange.status)
    if exchange.status >= 500:
        span.set_attribute("error.type", str(exchange.status))
        span.set_status(StatusCode.ERROR)
