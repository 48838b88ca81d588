"""Traces by the OpenTelemetry API: spans, and the traceparent that carries a trace across processes.

Without an SDK, which `telemetry.configure` sets up for a service, every span is a no-op.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACER = "antiphon"

_propagator = TraceContextTextMapPropagator()


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[trace.Span]:
    """Open a span around the block; an exception marks it as failed."""
    with trace.get_tracer(TRACER).start_as_current_span(name, attributes=attributes) as opened:
        yield opened


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the open span, or None."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def continue_from(traceparent: str | None) -> Iterator[None]:
    """Let spans in the block continue the trace of a message; None continues no trace."""
    if traceparent is None:
        yield
        return
    token = context.attach(_propagator.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)
