"""Commits as spans, in the traces of the requests and calls whose events they contain."""

import time
from collections.abc import Iterable, Mapping

from msgspec import UNSET
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from antiphon.chassis.sql_spans import sql_attributes
from antiphon.chassis.tracing import MESSAGES, TRACER, Value, context_of, enabled, is_sampled
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.registry import MILESTONES

SESSIONS_PER_SECOND = 20  # whose traces one loop writes to: a span costs as much as the commit of an event


class TracedCommits:
    """The commits of one loop: for each traced session in a batch a span, and in it one of the statement."""

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, Value]) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._left = float(SESSIONS_PER_SECOND)
        self._since = time.monotonic()

    def show(
        self, envelopes: Iterable[Envelope], number: int, statement: str, *, began: int, sent: int
    ) -> None:
        """Show the commit of `number` events, which has ended now.

        `began` and `sent` (its statement) are unix nanoseconds.
        """
        if not enabled():
            return
        ended = time.time_ns()
        for parent, session_id in self._traced(envelopes).items():
            self._left -= 1
            tracer = trace.get_tracer(TRACER)
            attributes = {**self._attributes, MESSAGES: number, "session.id": session_id}
            span = tracer.start_span(
                self._name, context_of(parent), kind=self._kind, attributes=attributes, start_time=began
            )
            sql = sql_attributes(statement)
            tracer.start_span(
                str(sql["db.query.summary"]),
                trace.set_span_in_context(span),
                kind=SpanKind.CLIENT,
                attributes=sql,
                start_time=sent,
            ).end(ended)
            span.end(ended)

    def _traced(self, envelopes: Iterable[Envelope]) -> dict[str, str]:
        """Return the traces of a batch that may be shown, with their session."""
        now = time.monotonic()
        refill = (now - self._since) * SESSIONS_PER_SECOND
        self._left, self._since = min(SESSIONS_PER_SECOND, self._left + refill), now
        found: dict[str, str] = {}
        most = int(self._left)
        if not most:
            return found
        for envelope in envelopes:
            parent = envelope.traceparent
            if parent is UNSET or envelope.type not in MILESTONES or not is_sampled(str(parent)):
                continue
            found[str(parent)] = envelope.subject
            if len(found) == most:
                break
        return found
