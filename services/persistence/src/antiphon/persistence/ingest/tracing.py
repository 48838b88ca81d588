"""Show a commit in the trace of each request whose events it holds."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import UNSET
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from antiphon.chassis.tracing import TRACER, continue_from
from antiphon.persistence.ingest.judge import Entry, Judged

MOST_TRACES = 50  # of one batch: a trace is a help, not a record


@contextmanager
def trace_commit(partition: int, batch: Sequence[Judged]) -> Iterator[None]:
    """Add a span, as long as the block, to the trace of each event in the batch."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        yield
        return
    started = time.time_ns()
    yield
    tracer = trace.get_tracer(TRACER)
    attributes: dict[str, str | int] = {
        "db.system.name": "postgresql",
        "antiphon.partition": partition,
        "antiphon.events": len(batch),
    }
    for parent in _parents(batch):
        with continue_from(parent):
            tracer.start_span("event_log commit", start_time=started, attributes=attributes).end()


def _parents(batch: Sequence[Judged]) -> list[str]:
    parents = (judged.envelope.traceparent for judged in batch if isinstance(judged, Entry))
    return list(dict.fromkeys(str(parent) for parent in parents if parent is not UNSET))[:MOST_TRACES]
