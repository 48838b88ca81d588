"""Logs are one JSON object per line; the OTEL_* variables turn trace export on and off."""

import json
import subprocess
import sys

import pytest

from antiphon.chassis import telemetry
from antiphon.chassis.settings import LogSettings

LOGS = """
import logging, sys
import structlog
from antiphon.chassis import telemetry, tracing
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings(log_format=sys.argv[1], log_level=sys.argv[2]))
log = structlog.get_logger()
log.debug("hidden")
with tracing.span("work"):
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


def run(*arguments: str, program: str = LOGS, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_every_line_is_json_with_service_level_and_timestamp() -> None:
    lines = [json.loads(line) for line in run("json", "info").stderr.splitlines()]

    assert [line["event"] for line in lines] == ["cup.filled", "careful now", "broke"]
    assert {line["service"] for line in lines} == {"test"}
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["size"] == 3
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[2]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_pretty_logs_are_not_json() -> None:
    text = run("pretty", "info").stderr

    assert "cup.filled" in text
    assert "ZeroDivisionError" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_traceback_never_shows_local_variables(form: str) -> None:
    output = run(form, "info").stderr

    assert "ZeroDivisionError" in output
    assert "4111" not in output.replace('said = "my card number is 4111"', "")


def test_nothing_is_exported_by_default() -> None:
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


def test_an_unknown_exporter_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    with pytest.raises(SystemExit) as ended:
        telemetry.configure("test", LogSettings())

    assert ended.value.code == 2
    assert "OTEL_TRACES_EXPORTER is 'zipkin': allowed are otlp, console, none" in capsys.readouterr().err


def test_a_queue_of_spans_that_cannot_be_is_refused() -> None:
    configure = (
        "from antiphon.chassis import telemetry, settings; telemetry.configure('t', settings.LogSettings())"
    )
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    with pytest.raises(subprocess.CalledProcessError) as ended:
        run(program=configure, **environment)

    assert ended.value.returncode == 2
    assert ended.value.stderr.startswith("OTEL_BSP_… is not valid: max_export_batch_size must be")


STANDARD_LOGS = """
import logging, sys
from antiphon.chassis import telemetry, tracing
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings(log_level=sys.argv[1]))
bus = get_logger("antiphon.chassis.bus.x")
bus.debug("pull.sent")
bus.info("nats.reconnected", extra={"subject": "a"})
try:
    1 / 0
except ZeroDivisionError:
    bus.exception("nats.handler_failed", extra={"subject": "b"})
logging.getLogger("library").info("hidden", extra={"subject": "c"})
"""


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["pull.sent", "nats.reconnected", "nats.handler_failed"]),
        ("info", ["nats.reconnected", "nats.handler_failed"]),
        ("error", ["nats.handler_failed"]),
    ],
)
def test_standard_loggers_of_ours_follow_the_configured_level(level: str, events: list[str]) -> None:
    lines = [json.loads(line) for line in run(level, program=STANDARD_LOGS).stderr.splitlines()]

    assert [line["event"] for line in lines] == events


def test_standard_log_records_are_rendered_with_their_extra_fields() -> None:
    text = run("info", program=STANDARD_LOGS).stderr
    reconnected, failed = (json.loads(line) for line in text.splitlines())

    assert reconnected.pop("timestamp").endswith("Z")
    assert reconnected == {
        "event": "nats.reconnected",
        "subject": "a",
        "level": "info",
        "service": "test",
    }
    assert (failed["subject"], failed["level"]) == ("b", "error")
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"
