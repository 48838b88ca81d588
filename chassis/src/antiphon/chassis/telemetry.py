"""Logs by structlog, traces by OpenTelemetry; what is exported, and where to, the OTEL_* variables say."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from antiphon.chassis.settings import LogSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

TRACER = "antiphon"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_propagator = TraceContextTextMapPropagator()


def configure(service: str, settings: LogSettings) -> None:
    """Set up logs and traces for this process; call it once, first."""
    _configure_logs(service, settings)
    _configure_traces(service)


def get_logger() -> FilteringBoundLogger:
    """Return a logger."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


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
    """Let spans within the block continue the trace of a message; None continues nothing."""
    if traceparent is None:
        yield
        return
    token = context.attach(_propagator.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


def flush() -> None:
    """Export the spans that are still held, before the process ends."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)  # the default provider has none
    if shutdown is not None:
        shutdown()


def _configure_traces(service: str) -> None:
    exporter = _exporter()
    if exporter is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    # The SDK is loaded only where it is asked for: it costs every start and every agent job a while.
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service)})
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _exporter() -> "SpanExporter | None":
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if chosen == "none" or not (chosen or any(os.environ.get(name) for name in ENDPOINTS)):
        return None
    if chosen == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if chosen in ("", "otlp"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise SystemExit(f"OTEL_TRACES_EXPORTER is {chosen!r}: allowed are otlp, console, none")


def _configure_logs(service: str, settings: LogSettings) -> None:
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
        _add_trace,
    ]
    pretty = settings.log_format == "pretty"
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if pretty
        else structlog.processors.JSONRenderer()
    )
    # the local variables of a frame hold what people said: a traceback never shows them
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    ending: list[Processor] = [] if pretty else [tracebacks]
    structlog.configure(
        processors=[*shared, *ending, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _add_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    spoken = trace.get_current_span().get_span_context()
    if spoken.is_valid:
        event["trace_id"] = f"{spoken.trace_id:032x}"
        event["span_id"] = f"{spoken.span_id:016x}"
    return event
