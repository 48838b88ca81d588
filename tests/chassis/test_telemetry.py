"""Logs are one JSON object per line, traces cross processes by their traceparent, exporters obey OTEL_*."""

import json
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from antiphon.chassis import telemetry
from antiphon.chassis.settings import LogSettings

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

LOGS = """
import logging, sys
from antiphon.chassis import telemetry
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings(log_format=sys.argv[1], log_level=sys.argv[2]))
log = telemetry.get_logger()
log.debug("hidden")
with telemetry.span("work"):
    log.info("cup.filled", size=3)
logging.getLogger("library").warning("careful %s", "now")
def fail():
    said = "my card number is 4111"
    return 1 / 0
try:
    fail()
except ZeroDivisionError:
    log.exception("broke")
telemetry.flush()
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOGS, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_every_line_is_json_with_service_level_and_time() -> None:
    lines = [json.loads(line) for line in run("json", "info").stderr.splitlines()]

    assert [line["event"] for line in lines] == ["cup.filled", "careful now", "broke"]
    assert {line["service"] for line in lines} == {"test"}
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["size"] == 3
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[2]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_pretty_is_for_people() -> None:
    text = run("pretty", "info").stderr

    assert "cup.filled" in text
    assert "ZeroDivisionError" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_traceback_never_shows_what_people_said(form: str) -> None:
    told = run(form, "info").stderr

    assert "ZeroDivisionError" in told
    assert "4111" not in told.replace('said = "my card number is 4111"', "")


def test_nothing_is_exported_unless_asked_for() -> None:
    result = run("json", "info")

    assert "trace_id" not in json.loads(result.stderr.splitlines()[0])


def test_the_standard_variables_turn_traces_on() -> None:
    text = run("json", "info", OTEL_TRACES_EXPORTER="console").stderr

    assert "trace_id" in json.loads(text.splitlines()[0])
    assert '"name": "work"' in text


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_variables_turn_traces_off(off: dict[str, str]) -> None:
    text = run("json", "info", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **off).stderr

    assert "trace_id" not in json.loads(text.splitlines()[0])


def test_an_exporter_that_we_do_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    with pytest.raises(SystemExit, match="OTEL_TRACES_EXPORTER is 'zipkin': allowed are otlp, console, none"):
        telemetry.configure("test", LogSettings())


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Collect finished spans in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def test_a_trace_goes_on_from_a_message(spans: InMemorySpanExporter) -> None:
    with telemetry.continue_from(PARENT), telemetry.span("consume", events=2):
        onward = telemetry.current_traceparent()

    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes == {"events": 2}
    assert onward is not None
    assert onward.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert onward != PARENT


def test_outside_of_a_span_there_is_no_traceparent() -> None:
    assert telemetry.current_traceparent() is None


def test_a_message_without_trace_continues_nothing(spans: InMemorySpanExporter) -> None:
    with telemetry.continue_from(None), telemetry.span("consume"):
        pass

    assert spans.get_finished_spans()[0].parent is None


def test_a_failed_span_says_so(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ZeroDivisionError), telemetry.span("work"):
        raise ZeroDivisionError

    assert not spans.get_finished_spans()[0].status.is_ok
