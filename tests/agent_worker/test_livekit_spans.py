"""LiveKit's spans are in the trace that the job continues; a conversation leaves the process only if allowed.

The conversation is by text, in a process of its own, whose spans a real receiver gets.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.doubles.otlp_receiver import OtlpReceiver, ReceivedSpan

PHRASE = "canary-4111"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"
PROGRAM = """
import asyncio, json, logging, sys
from types import SimpleNamespace
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.telemetry.rpc import TracingRpcInterceptor
from livekit.agents.testing import fake_job_context
from tests.fixtures.echo_llm import EchoLLM
from antiphon.agent_worker.livekit_spans import trace_livekit
from antiphon.chassis import telemetry
from antiphon.chassis.logs import bind_process
from antiphon.chassis.settings import LogSettings

class Desk(Agent):
    def __init__(self):
        super().__init__(instructions="answer canary-4111")

    @function_tool
    async def book(self, name: str) -> str:
        "Book a table for canary-4111."
        return f"booked for {name}"

    @function_tool
    async def crash(self, name: str) -> str:
        "Fail."
        raise ValueError(f"nobody is called {name}")

async def converse():
    bind_process(session_id="s-1")
    session = AgentSession(vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"})
    await session.start(Desk())
    await session.run(user_input="canary-4111 said")
    await session.run(user_input='book({"name": "canary-4111"})')
    await session.run(user_input='crash({"name": "canary-4111"})')
    sip = {"sip.phoneNumber": "canary-4111", "sip.h.from": "canary-4111", "sip.callID": "SCL_1"}
    kind = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    caller = SimpleNamespace(sid="PA_1", identity="canary-4111", kind=kind, attributes=sip)
    session._on_room_io_participant_linked(caller)
    turn = SimpleNamespace(
        method="start_turn", request_id="1", caller_identity="canary-4111", response_timeout=1.0, payload=""
    )
    async def answer(_):
        return "canary-4111"
    await TracingRpcInterceptor().intercept_incoming(turn, answer)
    await session.aclose()

telemetry.configure("agent-worker", LogSettings(log_level="debug"))
logging.getLogger("livekit").setLevel(logging.DEBUG)
trace_livekit()
with fake_job_context(job_metadata=sys.argv[1]):
    asyncio.run(converse())
telemetry.flush()
"""


def converse(metadata: str, **environment: str) -> tuple[list[ReceivedSpan], list[dict[str, Any]], str]:
    """Return the spans and the log lines of a conversation, and all that was logged."""
    with OtlpReceiver().running() as receiver:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, metadata],
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "PYTHONPATH": ".", **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        return receiver.spans(), lines, done.stderr + done.stdout


def test_spans_continue_the_trace_of_the_job_and_tell_nothing_that_was_said() -> None:
    metadata = json.dumps({"session_id": "s-1", "traceparent": f"00-{TRACE}-{CLIENT}-01"})

    spans, lines, logged = converse(metadata)

    assert {span.trace_id for span in spans} == {TRACE}
    by_id = {span.span_id: span for span in spans}
    assert {span.parent_id for span in spans} - by_id.keys() == {CLIENT}
    names = {span.name for span in spans}
    assert names >= {"agent_session", "agent_turn", "llm_node", "llm_request", "function_tool"}
    (request, *_) = (span for span in spans if span.name == "llm_request")
    assert request.attributes["gen_ai.operation.name"] == "chat"
    assert [span.text for span in spans if PHRASE in span.text] == []
    (conversation,) = (span for span in spans if span.name == "agent_session")
    assert conversation.attributes["lk.sip.callID"] == "SCL_1"
    assert "rpc_handler" in names
    assert PHRASE not in logged
    assert {line["session_id"] for line in lines if line.get("service")} == {"s-1"}
    assert any(line.get("level") == "debug" for line in lines)


@pytest.mark.parametrize("metadata", ["not JSON", '{"traceparent": "00-broken"}'])
def test_a_job_without_a_trace_has_one_of_its_own(metadata: str) -> None:
    spans, *_ = converse(metadata)

    (session,) = (span for span in spans if span.name == "agent_session")
    assert session.parent_id == ""


def test_what_was_said_is_there_under_its_marks_when_it_is_switched_on() -> None:
    spans, lines, _ = converse("", ANTIPHON_TELEMETRY_PERSONAL_DATA="true")

    keys = {key for span in spans for key, value in span.attributes.items() if PHRASE in str(value)}
    assert {"lk.pii.user_input", "lk.pii.response.text", "gen_ai.input.messages"} <= keys
    marked = {key for line in lines for key, value in line.items() if PHRASE in str(value)}
    assert any("pii" in key.split(".") for key in marked)
