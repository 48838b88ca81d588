"""Commits are spans in the traces of their events: those that are recorded, and a bounded number."""

import signal
import time
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from tests.doubles.finished_spans import keep_spans

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import Envelope
from antiphon.persistence import traced_commits
from antiphon.persistence.ingest.group_writer import INGEST_BATCH
from antiphon.persistence.traced_commits import SESSIONS_PER_SECOND, TracedCommits

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Replicas

SAMPLED, NOT_SAMPLED = "01", "00"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    return keep_spans(monkeypatch, traced_commits)


def commits() -> TracedCommits:
    return TracedCommits("process SESSIONS", SpanKind.CONSUMER, {"messaging.system": "nats"})


def traced(envelope: Envelope, number: int, flags: str = SAMPLED) -> Envelope:
    return structs.replace(envelope, traceparent=f"00-{number:032x}-00f067aa0ba902b7-{flags}")


def show(shown: TracedCommits, *envelopes: Envelope) -> None:
    now = time.time_ns()
    shown.show(envelopes, len(envelopes), INGEST_BATCH, began=now, sent=now)


def test_each_traced_session_has_a_span_with_its_statement(
    spans: InMemorySpanExporter, new_session: "NewSession"
) -> None:
    one, other = new_session("one"), new_session("other")
    call = [traced(envelope, 1) for envelope in one.whole_call()]
    show(commits(), *call, traced(other.requested(), 2), new_session("untraced").requested())

    found = [span for span in spans.get_finished_spans() if span.name == "process SESSIONS"]
    assert [span.context.trace_id for span in found if span.context] == [1, 2]
    first, second = (span.attributes for span in found)
    assert first is not None
    assert second is not None
    assert (first["session.id"], second["session.id"]) == (one.session_id, other.session_id)
    assert first["messaging.batch.message_count"] == second["messaging.batch.message_count"] == len(call) + 2
    statements = [span for span in spans.get_finished_spans() if span.name == "SELECT ingest_batch"]
    parents = [span.parent.span_id for span in statements if span.parent]
    assert parents == [span.context.span_id for span in found if span.context]


def test_states_of_voices_are_in_no_trace(spans: InMemorySpanExporter, new_session: "NewSession") -> None:
    states = [one for one in new_session("one").whole_call() if one.type.endswith("_state_changed")]
    show(commits(), *(traced(state, 1) for state in states))

    assert states
    assert spans.get_finished_spans() == ()


def test_what_is_not_recorded_or_broken_has_none(
    spans: InMemorySpanExporter, new_session: "NewSession"
) -> None:
    requested = new_session("one").requested()
    broken = structs.replace(requested, traceparent="00-aa-bb-01")
    show(commits(), requested, traced(requested, 1, NOT_SAMPLED), traced(requested, 0), broken)

    assert spans.get_finished_spans() == ()


def test_a_loop_writes_to_a_bounded_number_of_traces(
    spans: InMemorySpanExporter, new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("antiphon.persistence.traced_commits.time.monotonic", lambda: now)
    requested, shown = new_session("one").requested(), commits()
    many = [traced(requested, number) for number in range(1, 10 * SESSIONS_PER_SECOND)]

    def count() -> int:
        spans.clear()
        show(shown, *many)
        return len(spans.get_finished_spans()) // 2

    assert (count(), count()) == (SESSIONS_PER_SECOND, 0)
    now += 2.5 / SESSIONS_PER_SECOND
    assert count() == 2
    now += 3600
    assert count() == SESSIONS_PER_SECOND


@pytest.mark.slow
async def test_a_commit_is_a_span_in_the_trace_of_the_request(
    bus: Bus,
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("traced")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    envelope = structs.replace(session.requested(), traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    persistence = replica(OTEL_TRACES_EXPORTER="console")
    await persistence.start()
    await persistence.until_ready()  # else the view may be built with the event
    await bus.publish(outgoing(envelope))
    await event_log.until(1, seconds=60)

    async def projected() -> bool:
        return bool(await event_log.pool.fetchval("select count(*) from sessions"))

    await eventually(projected, seconds=60)
    assert await persistence.end(signal.SIGTERM) == 0

    output = persistence.log.read_text()
    for name in ("process SESSIONS", "SELECT ingest_batch", "project sessions", "INSERT sessions"):
        assert f'"name": "{name}"' in output
    assert f'"trace_id": "0x{trace}"' in output
