"""One trace from the request of a client to the SQL, through the broker, the job and each turn of a call."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import httpx
from tests.doubles.otlp_receiver import OtlpReceiver, ReceivedSpan, tree
from tests.journeys.json_api import Json

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
LINE = "i would like to book a table for two"
SAID = ("table for two", "canary-user", "canary-order")  # by the caller and the agent, and in the request
EXPORTED_SECONDS = 40.0
LAST = ("job_entrypoint", "job_shutdown", "project turns")  # when the call has ended


async def test_a_call_is_one_trace_from_the_request_to_the_sql(
    stack: EmbeddedStack,
    http: httpx.AsyncClient,
    traces: OtlpReceiver,
    to_the_end: Callable[[str], Awaitable[list[Json]]],
) -> None:
    wanted = {"flow_id": "booking", "user_id": "canary-user", "metadata": {"order": "canary-order"}}
    response = await http.post(
        "/v1/sessions", json=wanted, headers={"traceparent": f"00-{TRACE}-{CLIENT}-01"}
    )
    created = response.json()
    ended = asyncio.ensure_future(to_the_end(created["session_id"]))
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
        await caller.say_until_understood(LINE)
    events = await ended
    assert any("table for two" in json.dumps(event["data"]) for event in events)

    spans = await exported(traces)
    print(tree(spans))
    by_id = {span.span_id: span for span in spans}
    assert {span.parent_id for span in spans} - by_id.keys() == {CLIENT}  # connected, and one begins it
    (request,) = (span for span in spans if span.parent_id == CLIENT)
    assert (request.name, request.kind, request.service) == ("POST /v1/sessions", "SERVER", "session-api")
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.route"] == "/v1/sessions"
    assert request.attributes["http.response.status_code"] == 201

    def path(span: ReceivedSpan) -> list[str]:
        names = []
        while span.span_id != request.span_id:
            names.append(span.name)
            span = by_id[span.parent_id]
        return names[::-1]

    found = [path(span) for span in spans]
    create = "livekit.RoomService/CreateRoom"
    session = [create, "job_entrypoint", "agent.answer", "agent_session"]
    sql = "INSERT sessions"
    for expected in (
        ["publish SESSIONS", "process SESSIONS", "SELECT ingest_batch"],
        ["publish SESSIONS", "project sessions", sql],
        [create, "job_entrypoint", "publish SESSIONS"],
        [create, "job_entrypoint", "process SESSIONS", "SELECT ingest_batch"],
        [create, "job_entrypoint", "project turns", "INSERT turns"],
        [*session, "user_turn"],
        [*session, "agent_turn", "llm_node", "llm_request"],
        [*session, "agent_turn", "tts_node", "tts_stream_adapter", "tts_request"],
        [create, "job_entrypoint", "job_shutdown"],
    ):
        assert any(names[: len(expected)] == expected for names in found), expected

    assert_conventions(spans)
    assert_no_personal_data(spans, stack)


async def exported(traces: OtlpReceiver) -> list[ReceivedSpan]:
    """Return the spans of the trace, once the last ones have been exported and all are connected."""
    async with asyncio.timeout(EXPORTED_SECONDS):
        while True:
            spans = traces.spans(TRACE)
            names, known = {span.name for span in spans}, {span.span_id for span in spans}
            if names >= set(LAST) and {span.parent_id for span in spans} - known == {CLIENT}:
                return spans
            await asyncio.sleep(0.1)


def assert_conventions(spans: list[ReceivedSpan]) -> None:
    """Check kinds and attributes of OpenTelemetry's semantic conventions."""
    for span in spans:
        if span.name == "publish SESSIONS":
            assert (span.kind, span.attributes["messaging.operation.type"]) == ("PRODUCER", "send")
        if span.name == "process SESSIONS":
            assert (span.kind, span.attributes["messaging.operation.type"]) == ("CONSUMER", "process")
        if span.name.endswith(" SESSIONS"):
            assert span.attributes["messaging.system"] == "nats"
            assert span.attributes["messaging.destination.name"] == "SESSIONS"
        if "db.system.name" in span.attributes:
            assert span.kind == "CLIENT"
            assert span.attributes["db.system.name"] == "postgresql"
            assert span.attributes["db.query.summary"] == span.name
            assert span.attributes["db.operation.name"] in {"SELECT", "INSERT", "UPDATE", "DELETE"}
        if span.name == "llm_request":
            assert span.attributes["gen_ai.operation.name"] == "chat"
            assert span.attributes["gen_ai.request.model"]
    services = {span.service for span in spans}
    assert services == {"session-api", "agent-worker", "persistence"}


def assert_no_personal_data(spans: list[ReceivedSpan], stack: EmbeddedStack) -> None:
    """Check that no span and no line of a log says what the caller said or who they are."""
    for phrase in SAID:
        assert [span.text for span in spans if phrase in span.text] == []
    logs = list((stack.settings.home / "logs").glob("*.log"))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert [line for line in lines if any(phrase in line for phrase in SAID)] == []
    of_trace = [json.loads(line) for line in lines if TRACE in line]
    assert {line["service"] for line in of_trace} >= {"session-api", "agent-worker"}
    assert all(line["span_id"] for line in of_trace)
