"""Log lines have the trace and the session; what is personal is in none, unless it is switched on."""

import json
import subprocess
import sys
from typing import Any

import pytest

PHRASE = "canary-4111"
PROGRAM = """
import logging, sys
import structlog
from antiphon.chassis import logs, telemetry, tracing
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings(telemetry_personal_data=sys.argv[1] == "shown", log_level="debug"))
said = "canary-4111"
log = structlog.get_logger()
livekit = logging.getLogger("livekit.agents")
log.info("ours", pii_text=said, size=3)
log.info("ours.dotted", **{"pii.text": said})
get_logger("antiphon.recorder").warning("library", extra={"pii_text": said, "size": 3})
livekit.setLevel(logging.DEBUG)
livekit.debug("received user transcript", extra={"lk.pii.user_transcript": said, "language": "en"})
livekit.warning("answer", extra={"gen_ai.output.messages": said})

class UniqueViolation(Exception):
    pass

UniqueViolation.__module__ = "asyncpg.exceptions"

def fail(error):
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError(f"tool failed: {said}") from cause
    except RuntimeError:
        log.exception("failed")

fail(ValueError(f"no number: {said}"))
fail(ExceptionGroup("two", [KeyError(said), OSError(2, "no such host")]))
fail(UniqueViolation(f"duplicate key\\nDETAIL:  Key (name)=({said}) already exists."))
log.warning("sentence", error=f"duplicate key\\nDETAIL:  ({said})")
"""


def lines(shown: str, program: str = PROGRAM, **environment: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", program, shown],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def test_no_line_is_personal_by_default() -> None:
    found = lines("hidden")

    assert len(found) == 9
    assert [line for line in found if PHRASE in json.dumps(line)] == []
    assert found[0]["size"] == found[2]["size"] == 3
    assert found[3]["language"] == "en"
    errors = [(one["exc_type"], one["exc_value"]) for one in found[5]["exception"]]
    assert errors == [("RuntimeError", "(hidden)"), ("ValueError", "(hidden)")]
    assert found[5]["exception"][0]["frames"]
    (group,) = [one for one in found[6]["exception"] if one["is_group"]]
    inner = [one["exc_value"] for (one, *_) in group["exceptions"]]
    assert inner == ["(hidden)", "[Errno 2] no such host"]
    assert found[7]["exception"][1]["exc_value"] == "duplicate key"
    assert found[8]["error"] == "duplicate key"


def test_what_is_personal_is_there_under_its_mark_when_it_is_switched_on() -> None:
    found = lines("shown")

    assert [line["pii.text"] for line in found[:3]] == [PHRASE] * 3
    assert found[3]["lk.pii.user_transcript"] == found[4]["gen_ai.output.messages"] == PHRASE
    assert all(PHRASE in json.dumps(line) for line in found)


QUOTED = """
import asyncio, gc, logging, socket, sys, threading
import structlog
from antiphon.chassis import telemetry
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings(log_level="debug"))
said = "canary-4111 o'clock\\nsharp"
livekit = logging.getLogger("livekit.agents")

class RequestError(OSError):
    pass

class DataError(Exception):
    pass

DataError.__module__ = "asyncpg.exceptions"

async def crash():
    raise ValueError(f"no number: {said}")

async def main():
    try:
        await crash()
    except ValueError as error:
        livekit.warning(f"failed to generate: {error}, retrying in 2s", extra={"attempt": 1})
        livekit.warning("%s failed: %s", "tts", error)
        livekit.error("closing", extra={"error": error, "reason": str(error), "all": [error]})
    livekit.error("later %s", KeyError(said))
    crashing = asyncio.create_task(crash())
    await asyncio.wait([crashing])
    del crashing
    gc.collect()
    for error in (
        RequestError(f"Max retries exceeded with url: /?phone={said}"),
        ConnectionError(f"no way to {said}"),
        DataError(f"invalid input for query argument $1: '{said}' (expected int)"),
        DataError(f'invalid input syntax for type integer: "{said}"'),
    ):
        error.add_note(said)
        try:
            raise error
        except Exception as raised:
            structlog.get_logger().exception("failed")
    structlog.get_logger().warning("refused", error=f"value \\"{said}\\" is out of range for type bigint")
    try:
        socket.create_connection(("127.0.0.1", 1), timeout=5)
    except OSError as error:
        livekit.warning(f"no connection: {error}")

asyncio.run(main())
thread = threading.Thread(target=lambda: int(said))
thread.start()
thread.join()
"""


def test_no_line_has_the_message_of_an_error_that_may_quote_a_caller() -> None:
    found = lines("", QUOTED)

    assert [line for line in found if PHRASE in json.dumps(line) or "sharp" in json.dumps(line)] == []
    assert [line["event"] for line in found[:4]] == [
        "failed to generate: (hidden), retrying in 2s",
        "tts failed: (hidden)",
        "closing",
        "later (hidden)",
    ]
    assert found[0]["attempt"] == 1
    assert "exception=(hidden)" in found[4]["event"]
    assert found[7]["exception"][0]["exc_value"] == "invalid input for query argument $1: (hidden)"
    assert found[9]["error"] == "value (hidden) is out of range for type bigint"
    assert found[10]["event"] == "no connection: [Errno 111] Connection refused"
    assert found[11]["event"] == "thread.crashed"
    assert found[11]["exception"][0]["exc_type"] == "ValueError"


BOUND = """
import asyncio, logging
import structlog
from antiphon.chassis import logs, telemetry, tracing
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings())

async def main():
    async def elsewhere():
        await asyncio.Event().wait()
    with tracing.span("job"):
        logs.bind_process(session_id="s-1", job_id="AJ_1")
    structlog.get_logger().info("outside")
    logging.getLogger("livekit").warning("foreign")
    with tracing.span("inner"):
        structlog.get_logger().info("inside")

asyncio.run(main())
"""


@pytest.mark.parametrize("exporter", ["console", "none"])
def test_every_line_of_a_job_has_its_session_and_trace(exporter: str) -> None:
    found = lines("", BOUND, OTEL_TRACES_EXPORTER=exporter)

    events = [line for line in found if "event" in line]
    assert [line["event"] for line in events] == ["outside", "foreign", "inside"]
    assert {(line["session_id"], line["job_id"]) for line in events} == {("s-1", "AJ_1")}
    if exporter == "console":
        assert len({line["trace_id"] for line in events}) == 2  # two roots: that of the job, and `inner`
        assert events[0]["span_id"] == events[1]["span_id"] != events[2]["span_id"]


EXPORTING = """
from antiphon.chassis import telemetry, tracing
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings())
with tracing.span("once"):
    pass
telemetry.flush()
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_HEADERS": "{}"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces?key={}"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:{}@127.0.0.1:9"},
    ],
)
@pytest.mark.parametrize("form", ["json", "pretty"])
def test_no_line_has_the_secret_of_the_receiver_of_spans(variables: dict[str, str], form: str) -> None:
    secret = f"a=b,Authorization: Bearer {PHRASE}" if "OTEL_EXPORTER_OTLP_HEADERS" in variables else PHRASE
    done = subprocess.run(
        [sys.executable, "-c", EXPORTING],
        env={name: value.format(secret) for name, value in variables.items()} | {"ANTIPHON_LOG_FORMAT": form},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "(hidden)" in done.stderr  # the line is there
    assert PHRASE not in done.stderr
