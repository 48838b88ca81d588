"""LiveKit's own spans of a job, in the trace of its session: job, session, turns, models and speech.

LiveKit starts the first span of a job before our code runs, as the root of a trace of its own. The tracer
that it gets here makes every such span a child of what the metadata of the job names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from livekit.agents import get_job_context
from livekit.agents.telemetry import set_tracer_provider
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Tracer, TracerProvider
from opentelemetry.util._decorator import _agnosticcontextmanager

from antiphon.chassis.tracing import context_of, enabled

METADATA_LIMIT = 64 * 1024  # characters; session-api's has about two hundred


class _Metadata(msgspec.Struct):
    traceparent: str | None = None


def trace_livekit() -> None:
    """Let LiveKit record its spans with this process's provider, if it has one.

    What they hold of conversations leaves the process only if the exporter lets it.
    """
    if enabled():
        set_tracer_provider(_Provider(trace.get_tracer_provider()))


class _Provider(TracerProvider):
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *arguments: Any, **options: Any) -> Tracer:
        return _Tracer(self._provider.get_tracer(*arguments, **options))


class _Tracer(Tracer):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(
        self,
        name: str,
        context: contexts.Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        if not trace.get_current_span(context).get_span_context().is_valid:
            context = _context_of_job(context)
        return self._tracer.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: contexts.Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception) as opened:
            yield opened


def _context_of_job(context: contexts.Context | None) -> contexts.Context | None:
    job = get_job_context(required=False)
    if job is None or not job.job.metadata or len(job.job.metadata) > METADATA_LIMIT:
        return context
    try:
        traceparent = msgspec.json.decode(job.job.metadata, type=_Metadata).traceparent
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # not written by session-api
        return context
    return context if traceparent is None else context_of(traceparent)
