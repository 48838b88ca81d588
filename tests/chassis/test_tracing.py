"""Traces continue across processes by traceparent; the bus and tracing need no libraries of services."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.doubles.finished_spans import keep_spans

from antiphon.chassis import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    return keep_spans(monkeypatch)


def test_a_span_continues_the_trace_of_a_message(spans: InMemorySpanExporter) -> None:
    with tracing.continue_from(PARENT), tracing.span("consume", events=2):
        onward = tracing.current_traceparent()

    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes == {"events": 2}
    assert onward is not None
    assert onward.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert onward != PARENT


def test_there_is_no_traceparent_outside_of_a_span() -> None:
    assert tracing.current_traceparent() is None


def test_a_message_without_a_trace_starts_a_new_one(spans: InMemorySpanExporter) -> None:
    with tracing.continue_from(None), tracing.span("consume"):
        pass

    assert spans.get_finished_spans()[0].parent is None


def test_an_exception_marks_its_span_as_failed(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ZeroDivisionError), tracing.span("work"):
        raise ZeroDivisionError

    assert not spans.get_finished_spans()[0].status.is_ok


def test_a_library_needs_no_structlog_pydantic_or_sdk() -> None:
    program = "import sys, antiphon.chassis.bus, antiphon.chassis.tracing; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()

    assert {"structlog", "pydantic", "starlette", "uvicorn", "opentelemetry.sdk"}.isdisjoint(loaded)
