"""Spans leave the process filtered, bounded in number, and without holding up its end."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from tests.doubles.otlp_receiver import OtlpReceiver

from antiphon.chassis.span_export import FirstOfASecond, PersonalDataFilter

PHRASE = "canary-4111"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
PROGRAM = """
import sys
from antiphon.chassis import telemetry, tracing
from antiphon.chassis.settings import LogSettings
telemetry.configure("test", LogSettings())
with tracing.continue_from(sys.argv[1] or None):
    for _ in range(int(sys.argv[2])):
        with tracing.span("POST", size=3):
            pass
telemetry.flush()
telemetry.flush()
print("opentelemetry.sdk.trace" in sys.modules)
"""


def run(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver().running() as running:
        yield running


def test_the_spans_of_a_process_reach_a_receiver(receiver: OtlpReceiver) -> None:
    run(PARENT + "1", "2", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)

    first, second = receiver.spans("0af7651916cd43dd8448eb211c80319c")
    assert (first.name, first.service, first.kind, first.attributes) == (
        "POST",
        "test",
        "INTERNAL",
        {"size": 3},
    )
    assert first.parent_id == second.parent_id == "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("parent", "sampler", "expected"),
    [
        (PARENT + "0", {}, 0),  # its client records nothing
        ("", {"ANTIPHON_TRACES_PER_SECOND": "0"}, 0),
        ("", {"OTEL_TRACES_SAMPLER": "always_off"}, 0),
        ("", {"OTEL_TRACES_SAMPLER": "always_on", "ANTIPHON_TRACES_PER_SECOND": "0"}, 40),
        (PARENT + "1", {"ANTIPHON_TRACES_PER_SECOND": "0"}, 40),
    ],
)
def test_sampling_is_respected(
    receiver: OtlpReceiver, parent: str, sampler: dict[str, str], expected: int
) -> None:
    run(parent, "40", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **sampler)

    assert len(receiver.spans()) == expected


def test_a_process_ends_when_nobody_takes_its_spans() -> None:
    assert run("", "20000", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") == "True"


def test_a_process_ends_when_the_receiver_of_spans_and_metrics_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as hanging:
        endpoint = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        minutes = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600000", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "600"}
        metrics = {"OTEL_METRICS_EXPORTER": "otlp", **minutes}

        assert run("", "10", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **metrics) == "True"


def test_without_an_exporter_the_sdk_is_not_loaded() -> None:
    assert run("", "1") == "False"


def test_the_first_traces_of_a_second_are_recorded_for_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("antiphon.chassis.span_export.time.monotonic", lambda: now)
    provider = TracerProvider(sampler=ParentBased(FirstOfASecond(2)))
    tracer = provider.get_tracer("test")

    def recorded(name: str, times: int) -> int:
        return sum(tracer.start_span(name).is_recording() for _ in range(times))

    assert (recorded("POST", 5), recorded("GET", 5)) == (2, 2)
    now += 0.5
    assert recorded("POST", 5) == 1
    now += 60
    assert recorded("POST", 5) == 2
    with trace.use_span(tracer.start_span("GET")) as first:
        assert first.is_recording()
        assert recorded("child", 9) == 9


@pytest.mark.parametrize("shown", [False, True])
def test_personal_data_leaves_only_when_it_is_switched_on(shown: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(PersonalDataFilter(exporter, shown=shown)))
    tracer = provider.get_tracer("livekit-agents")
    personal = (
        "lk.pii.user_input",
        "gen_ai.input.messages",
        "pii.text",
        "url.query",
        "gen_ai.prompt.variable.a",
    )
    with suppress(ValueError), tracer.start_as_current_span("llm_request") as span:
        span.set_attributes({**dict.fromkeys(personal, PHRASE), "gen_ai.request.model": "m"})
        span.add_event("gen_ai.user.message", {"content": PHRASE})
        span.add_event("generation", {"lk.generation_id": "1", "lk.pii.text": PHRASE})
        raise ValueError(PHRASE)

    (ended,) = exporter.get_finished_spans()
    assert (PHRASE in ended.to_json()) is shown
    assert ended.attributes is not None
    assert ended.attributes["gen_ai.request.model"] == "m"
    assert not ended.status.is_ok
    assert [event.name for event in ended.events][-2:] == ["generation", "exception"]
    assert ended.events[-1].attributes is not None
    assert ended.events[-1].attributes["exception.type"] == "ValueError"
