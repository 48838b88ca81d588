"""Logging with structlog and trace export with OpenTelemetry, set up for a service."""

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from antiphon.chassis.library_log import EVENT
from antiphon.chassis.settings import EXIT_BAD_SETTINGS, LogSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ends: list[Callable[[], None]] = []  # of what sends metrics

OWN_LOGGERS = "antiphon"  # the parent of all our loggers
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(service: str, settings: LogSettings, *, push_metrics: bool = True) -> None:
    """Set up logs and traces, and metrics that are sent, for this process; call it once, first.

    Exits with 2 when OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER is wrong.
    """
    pushes = _pushes_metrics()
    exporter = _exporter()  # first: it may exit, and then nothing is set up
    _configure_logs(service, settings)
    _configure_traces(service, exporter)
    if pushes and push_metrics:
        from antiphon.chassis.metrics.opentelemetry import push

        _ends.append(push(service))


def flush() -> None:
    """Export the remaining spans and metrics before the process ends."""
    while _ends:
        _ends.pop()()
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)  # the default provider has none
    if shutdown is not None:
        shutdown()


def _configure_traces(service: str, exporter: "SpanExporter | None") -> None:
    if exporter is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    # Imported only where traces are exported: the SDK slows down the start of every process and agent job.
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service)})
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _pushes_metrics() -> bool:
    chosen = os.environ.get("OTEL_METRICS_EXPORTER", "none") or "none"
    if chosen in ("otlp", "none"):
        return chosen == "otlp" and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    print(  # noqa: T201 - as every invalid setting
        f"OTEL_METRICS_EXPORTER is {chosen!r}: allowed are otlp, none; /metrics is always served",
        file=sys.stderr,
    )
    raise SystemExit(EXIT_BAD_SETTINGS)


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
    print(  # noqa: T201 - as every invalid setting
        f"OTEL_TRACES_EXPORTER is {chosen!r}: allowed are otlp, console, none", file=sys.stderr
    )
    raise SystemExit(EXIT_BAD_SETTINGS)


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
    # Local variables may contain transcripts, so a traceback never shows them.
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    final: list[Processor] = [renderer] if pretty else [tracebacks, renderer]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_event, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger(OWN_LOGGERS).setLevel(level)


def _add_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add


def _name_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = event.pop(EVENT, event["event"])  # our libraries repeat the fields in the message
    return event


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        event["trace_id"] = f"{current.trace_id:032x}"
        event["span_id"] = f"{current.span_id:016x}"
    return event
