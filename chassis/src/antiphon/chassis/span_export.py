"""The export of spans by OpenTelemetry's SDK: bounded in number, in time and in what it tells."""

import os
import sys
import time
from collections.abc import Sequence
from math import inf

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, TraceState
from opentelemetry.util.types import Attributes

from antiphon.chassis import tracing
from antiphon.chassis.personal_data import is_personal, is_personal_event, without_personal
from antiphon.chassis.settings import LogSettings

EXPORT_SECONDS = 3.0  # for one export, retries included, when OTEL_EXPORTER_OTLP_TIMEOUT says nothing
EXPORT_EVERY_MILLISECONDS = 2000  # when OTEL_BSP_SCHEDULE_DELAY says nothing: a killed job loses so much
CLIENTS_TRACES = 50.0  # of each HTTP method in a second, which clients have begun and record
ROUNDING = 1e-6  # seconds
TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")


class SpanExport:
    """The tracer provider of this process and its exporter."""

    def __init__(self, service: str, settings: LogSettings, exporter: str) -> None:
        given = os.environ.get("OTEL_TRACES_SAMPLER")
        self._sampler = sampler = None if given else FirstOfASecond(settings.traces_per_second)
        self._provider = TracerProvider(
            sampler=None if sampler is None else ParentBased(sampler),  # None: the SDK reads the variable
            resource=Resource.create(
                {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service), SERVICE_NAMESPACE: "antiphon"}
            ),
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else EXPORT_EVERY_MILLISECONDS
        filtered = PersonalDataFilter(_exporter(exporter), shown=settings.telemetry_personal_data)
        self._provider.add_span_processor(BatchSpanProcessor(filtered, schedule_delay_millis=delay))

    def start(self) -> None:
        """Export the spans of this process from now on."""
        trace.set_tracer_provider(self._provider)
        if self._sampler is not None:
            tracing.begins_here = self._sampler.takes
            tracing.goes_on_here = FirstOfASecond(max(CLIENTS_TRACES, self._sampler.limit)).takes

    def end(self) -> None:
        """Export what is left, for as long as the exporter takes."""
        self._provider.shutdown()


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(timeout=None if any(map(os.environ.get, TIMEOUTS)) else EXPORT_SECONDS)


class FirstOfASecond(Sampler):
    """A sampler of the first new traces of each second, for each name that they start with."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._apart = 1 / limit if limit > 0 else inf
        self._ahead = max(1.0, limit) * self._apart + ROUNDING if limit > 0 else 0.0
        self._used_until: dict[str, float] = {}  # by name: when the traces so far, evenly apart, would end

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return whether the trace is recorded."""
        asked = kind is SpanKind.SERVER  # before the span was made, which costs more than to ask
        decision = Decision.RECORD_AND_SAMPLE if asked or self.takes(name) else Decision.DROP
        return SamplingResult(decision, attributes if decision is not Decision.DROP else None)

    def get_description(self) -> str:
        """Return what the sampler does."""
        return f"FirstOfASecond{{{self.limit:g}}}"

    def takes(self, name: str) -> bool:
        """Return whether a trace that starts with a span of this name is recorded, and count it."""
        now = time.monotonic()
        until = max(now, self._used_until.get(name, 0.0)) + self._apart
        if until > now + self._ahead:
            return False
        self._used_until[name] = until
        return True


class PersonalDataFilter(SpanExporter):
    """An exporter behind which spans have no personal data, unless it is to be shown."""

    def __init__(self, exporter: SpanExporter, *, shown: bool) -> None:
        self._exporter = exporter
        self._shown = shown

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans."""
        return self._exporter.export(spans if self._shown else [_without_personal(span) for span in spans])

    def shutdown(self) -> None:
        """Let the exporter end."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Let the exporter export what it holds."""
        return self._exporter.force_flush(timeout_millis)


def _without_personal(span: ReadableSpan) -> ReadableSpan:
    clean = not any(map(is_personal, span.attributes or ()))
    if clean and not span.events and not span.links and not span.status.description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=without_personal(span.attributes or {}),
        events=[
            Event(event.name, without_personal(event.attributes or {}), event.timestamp)
            for event in span.events
            if not is_personal_event(event.name)
        ],
        links=[Link(link.context, without_personal(link.attributes or {})) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),  # its description is the message of an error
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
