"""LiveKit's own spans of a job, in the trace of its session: job, session, turns, models and speech.

LiveKit starts the first span of a job before our code runs, as the root of a trace of its own. The tracer
that it gets here makes every such span a child of what the metadata of the job names.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from livekit.agents import get_job_context
from livekit.agents.telemetry import set_tracer_provider
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, Tracer, TracerProvider
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
        self, name: str, context: contexts.Context | None = None, *arguments: Any, **options: Any
    ) -> Span:
        return self._tracer.start_span(name, _with_job(context), *arguments, **options)

    @_agnosticcontextmanager
    def start_as_current_span(
        self, name: str, context: contexts.Context | None = None, *arguments: Any, **options: Any
    ) -> Iterator[Span]:
        with self._tracer.start_as_current_span(name, _with_job(context), *arguments, **options) as span:
            yield span


def _with_job(context: contexts.Context | None) -> contexts.Context | None:
    """Return the context of a span: the one that is given or open, or else that of the job."""
    given = trace.get_current_span(context).get_span_context().is_valid
    return context if given else _context_of_job(context)


def _context_of_job(context: contexts.Context | None) -> contexts.Context | None:
    job = get_job_context(required=False)
    if job is None or not job.job.metadata or len(job.job.metadata) > METADATA_LIMIT:
        return context
    try:
        traceparent = msgspec.json.decode(job.job.metadata, type=_Metadata).traceparent
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # not written by session-api
        return context
    return context if traceparent is None else context_of(traceparent)
