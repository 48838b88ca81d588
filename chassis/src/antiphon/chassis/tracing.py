"""Traces by the OpenTelemetry API: spans, and the traceparent that carries a trace across processes.

Without an SDK, which `telemetry.configure` sets up for a service, every span is a no-op.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import getrandbits

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACER = "antiphon"
MESSAGES = "messaging.batch.message_count"

# whether a request may begin a recorded trace, or go on with its client's; None leaves it to the SDK
begins_here: "Callable[[str], bool] | None" = None
goes_on_here: "Callable[[str], bool] | None" = None

Value = str | int | float | bool

_NOT_ZERO = 1 << 64 | 1  # in both ids
_propagator = TraceContextTextMapPropagator()
_SAMPLED = re.compile("[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf](-.*)?")


class _Unrecorded(trace.NonRecordingSpan):
    """The place of a request in a trace that is not recorded, whose ids are mostly wanted as text."""

    def __init__(self, trace_id: str | None) -> None:
        ids = f"{getrandbits(192) | _NOT_ZERO:048x}"
        self.trace_id, self.span_id = trace_id or ids[:32], ids[32:]

    def get_span_context(self) -> trace.SpanContext:
        return trace.SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote=False)


class unrecorded:  # noqa: N801 - lower case, as contextlib.closing
    """Begin a trace that is not recorded: logs and events have its id, at a small part of a span's cost.

    With the id of another one, go on with that, and do not record it from here on.
    """

    __slots__ = ("_token", "_trace_id")

    def __init__(self, trace_id: str | None = None) -> None:
        self._trace_id = trace_id

    def __enter__(self) -> None:
        self._token = context.attach(trace.set_span_in_context(_Unrecorded(self._trace_id)))

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


def enabled() -> bool:
    """Return whether this process records spans."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def recording() -> bool:
    """Return whether a span is open that is recorded."""
    return trace.get_current_span().is_recording()


@contextmanager
def span(name: str, *, kind: SpanKind = SpanKind.INTERNAL, **attributes: Value) -> Iterator[trace.Span]:
    """Open a span around the block; an exception marks it as failed."""
    with trace.get_tracer(TRACER).start_as_current_span(name, kind=kind, attributes=attributes) as opened:
        yield opened


@contextmanager
def publishing(stream: str) -> Iterator[None]:
    """Show in the trace that is open that the block publishes a message."""
    if not recording():
        yield
        return
    with _span(f"publish {stream}", SpanKind.PRODUCER, messaging(stream, "publish", "send")):
        yield


@contextmanager
def publishing_many(stream: str, messages: int, parent: str | None) -> Iterator[None]:
    """Show in the trace of `parent`, whatever is open, that the block publishes messages; or in none."""
    if parent is None or not enabled() or not is_sampled(parent):
        yield
        return
    attributes = {**messaging(stream, "publish", "send"), MESSAGES: messages}
    with continue_from(parent), _span(f"publish {stream}", SpanKind.PRODUCER, attributes):
        yield


def messaging(stream: str, name: str, kind: str) -> dict[str, Value]:
    """Return the attributes of an operation on a stream: its name, and its kind in the conventions."""
    return {
        "messaging.system": "nats",
        "messaging.destination.name": stream,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


@contextmanager
def calling(system: str, service: str, method: str) -> Iterator[None]:
    """Show in the trace that is open that the block calls another server."""
    if not recording():
        yield
        return
    attributes: dict[str, Value] = {"rpc.system": system, "rpc.service": service, "rpc.method": method}
    with _span(f"{service}/{method}", SpanKind.CLIENT, attributes):
        yield


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the open span, or None."""
    span = trace.get_current_span()
    if isinstance(span, _Unrecorded):
        return f"00-{span.trace_id}-{span.span_id}-00"
    ids = span.get_span_context()
    if not ids.is_valid:
        return None
    return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"


def current_ids() -> tuple[str, str] | None:
    """Return the ids of the trace and of the span that are open, in hexadecimal digits, or None."""
    span = trace.get_current_span()
    if isinstance(span, _Unrecorded):
        return span.trace_id, span.span_id
    ids = span.get_span_context()
    return (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") if ids.is_valid else None


def is_sampled(traceparent: str) -> bool:
    """Return whether a traceparent is one, and the process that began the trace records it."""
    return _SAMPLED.fullmatch(traceparent) is not None


def context_of(traceparent: str) -> context.Context:
    """Return the context of spans that continue the trace of a message."""
    return _propagator.extract({"traceparent": traceparent})


@contextmanager
def continue_from(traceparent: str | None) -> Iterator[None]:
    """Let spans in the block continue the trace of a message; None continues no trace.

    An open span of the same trace stays the parent.
    """
    if traceparent is None:
        yield
        return
    continued = context_of(traceparent)
    span_context = trace.get_current_span(continued).get_span_context()
    if trace.get_current_span().get_span_context().trace_id == span_context.trace_id:
        yield
        return
    token = context.attach(continued)
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def _span(name: str, kind: SpanKind, attributes: dict[str, Value]) -> Iterator[None]:
    with trace.get_tracer(TRACER).start_as_current_span(name, kind=kind, attributes=attributes):
        yield
