"""What persistence serves at `/metrics`: right numbers, in an outage too, and a bounded number of series."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from tests.fixtures.scraped import Scraped, scrape

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentError, AgentJoined, AgentLeft, AgentReady
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
)
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import PARTITIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, NewSession, Publish, Replicas, SampleSession

pytestmark = pytest.mark.slow

SESSIONS = 1_000
TENANTS = 50
WARM_UP = 100  # enough that each partition has some

Scrape = Callable[[], "asyncio.Task[Scraped]"]


def joined(job: str) -> AgentJoined:
    return AgentJoined(job_id=job, worker_id="AW_1", epoch=job, identity="agent")


def call(session: "SampleSession", number: int = 0) -> list[Envelope]:
    """Return the events of a call in which an agent is lost and replaced; texts and ids differ in each."""
    latencies = {
        "transcription_delay": 0.2,
        "end_of_turn_delay": 0.3,
        "llm_node_ttft": 0.45,
        "tts_node_ttfb": "no number",
        "e2e_latency": 0.9,
    }
    job = f"AJ_a{number}"
    left = AgentLeft(
        job_id=job, epoch=job, reason="killed", fault=FaultSide.AGENT, duration_seconds=4, turns=1
    )
    tool = ToolCompleted(call_id=f"c{number}", name=f"tool{number}", status="error", duration_seconds=0.7)
    error = AgentError(source=f"stt{number}", kind=f"Kind{number}", recoverable=True, message="away")
    return [
        session.requested(),
        session.seal(joined(job)),
        session.seal(AgentReady(greeting="hello", ready_ms=1200)),
        session.seal(TurnSaved(turn=1, agent_id=f"host{number}", user_text="hi", metrics=latencies)),
        session.seal(TurnSaved(turn=2, agent_id="host", interrupted=True, metrics={"e2e_latency": 1.7})),
        session.seal(tool),
        session.seal(error),
        session.seal(left),
        session.seal(joined(f"AJ_b{number}")),
        session.seal(
            SessionClosed(
                reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=61.5, turns=2
            )
        ),
    ]


@pytest.fixture
async def scraping(replica: "Replicas", bus: Bus) -> Callable[[], "asyncio.Task[Scraped]"]:
    """A running persistence; the function scrapes it."""
    running = replica()
    await running.start()
    await running.until_ready()

    def now() -> "asyncio.Task[Scraped]":
        return asyncio.create_task(scrape(f"http://127.0.0.1:{running.port}"))

    return now


async def test_calls_are_counted_once(
    scraping: Scrape, publish: "Publish", bus: Bus, new_session: "NewSession", eventually: "Eventually"
) -> None:
    first, second, third = (new_session(name) for name in ("one", "two", "three"))
    failed = SessionFailed(reason=FailureReason.DISPATCH_FAILED, attempts=1)
    events = [*call(first), *call(second), third.requested(), third.seal(failed)]
    unusable = structs.replace(outgoing(second.requested()), payload=b"{}")
    await publish(events)
    await bus.publish(structs.replace(unusable, message_id="unusable"))
    for envelope in events[:10]:  # again, after the broker has forgotten them
        await bus.publish(structs.replace(outgoing(envelope), message_id=f"again {envelope.id}"))

    async def ingested() -> bool:
        found = await scraping()
        return found("antiphon_ingest_events_total", outcome="duplicate") == 10

    await eventually(ingested)
    found = await scraping()
    assert found("antiphon_ingest_events_total", outcome="stored") == len(events)
    assert found("antiphon_ingest_dead_letters_total", reason="malformed") == 1
    assert found("antiphon_ingest_dead_letters_total") == 1
    assert found("antiphon_calls_requested_total") == 3
    assert found("antiphon_calls_ended_total", reason="caller_left", fault="none") == 2
    assert found("antiphon_calls_ended_total", reason="dispatch_failed", fault="platform") == 1
    assert found("antiphon_calls_ended_total") == 3
    assert found("antiphon_call_duration_seconds_sum") == 123
    assert found("antiphon_call_time_to_ready_seconds_bucket", le="1.0") == 0
    assert found("antiphon_call_time_to_ready_seconds_bucket", le="1.5") == 2
    assert found("antiphon_turns_total", outcome="completed") == 2
    assert found("antiphon_turns_total", outcome="interrupted") == 2
    stages = {
        stage: found("antiphon_turn_latency_seconds_count", stage=stage)
        for stage in ("transcription", "end_of_turn", "llm", "tts", "e2e")
    }
    assert stages == {"transcription": 2, "end_of_turn": 2, "llm": 2, "tts": 0, "e2e": 4}
    assert found("antiphon_agents_joined_total") == 4
    assert found("antiphon_agents_redispatched_total") == 2
    assert found("antiphon_agents_left_total", reason="killed") == 2
    assert found("antiphon_agent_errors_total", recoverable="true") == 2
    assert found("antiphon_tool_duration_seconds_sum", outcome="error") == pytest.approx(1.4)
    assert found("antiphon_ingest_commit_duration_seconds_count") >= 3
    assert found("antiphon_projection_fold_duration_seconds_count", projection="sessions") >= 1
    assert found("antiphon_leases_held", group="ingest") == PARTITIONS
    assert found("antiphon_ingest_stopped") == found("antiphon_projection_stalled") == 0
    assert found("antiphon_bus_connected") == 1
    assert found("db_client_operation_duration_seconds_count", db_operation_name="SELECT") > 0
    assert found("db_client_connection_count") > 0
    assert found("db_client_connection_max") > 0
    assert found("antiphon_ready") == 1
    assert found("process_cpu_seconds_total") > 0


async def test_a_replacement_is_counted_by_a_process_that_did_not_see_the_first_agent(
    replica: "Replicas", publish: "Publish", bus: Bus, new_session: "NewSession", eventually: "Eventually"
) -> None:
    session = new_session("handed on")
    first = replica()
    await first.start()
    await first.until_ready()
    await publish([session.requested(), session.seal(joined("AJ_1"))])

    async def has(port: int, count: int) -> bool:
        return (await scrape(f"http://127.0.0.1:{port}"))("antiphon_agents_joined_total") == count

    await eventually(lambda: has(first.port, 1))
    await first.end()
    second = replica()
    await second.start()
    await publish([session.seal(joined("AJ_2")), new_session("another").seal(joined("AJ_3"))])
    await second.until_ready()
    await eventually(lambda: has(second.port, 2))
    found = await scrape(f"http://127.0.0.1:{second.port}")
    assert found("antiphon_agents_redispatched_total") == 1


async def test_more_sessions_make_no_more_series(
    scraping: Scrape, bus: Bus, new_session: "NewSession", eventually: "Eventually"
) -> None:
    async def put(numbers: range) -> Scraped:
        for number in numbers:
            session = new_session(f"s{number}", tenant=f"tenant{number % TENANTS}")
            messages = [outgoing(envelope) for envelope in call(session, number)]
            messages.append(Outgoing(messages[0].subject, b"{", message_id=f"unusable {number}"))
            await bus.publish_many(messages)
        expected = 10 * numbers.stop

        async def folded() -> bool:
            found = await scraping()
            behind = found("antiphon_ingest_backlog") + found("antiphon_projection_lag_seconds")
            return found("antiphon_ingest_events_total", outcome="stored") == expected and behind == 0

        await eventually(folded)
        return await scraping()

    before = await put(range(WARM_UP))
    after = await put(range(WARM_UP, WARM_UP + SESSIONS))

    assert after("antiphon_calls_ended_total") == WARM_UP + SESSIONS
    assert after("antiphon_ingest_dead_letters_total") == WARM_UP + SESSIONS
    assert after.series - before.series == frozenset()
    assert len(after.series) == len(before.series)
    print(f"{len(after.series)} series of persistence")


async def test_metrics_are_served_while_postgres_and_the_broker_are_away(
    scraping: Scrape,
    publish: "Publish",
    new_session: "NewSession",
    eventually: "Eventually",
    nats_server: NatsServer,
    postgres_server: Postgres,
) -> None:
    session = new_session("waits")
    postgres_server.stop()
    try:
        await publish(call(session))

        async def waits() -> bool:
            return (await scraping())("antiphon_ingest_backlog", partition=str(session.partition)) == 10

        async def alone() -> bool:
            return (await scraping())("antiphon_bus_connected") == 0

        await eventually(waits)
        nats_server.stop()
        try:
            await eventually(alone)
            assert (await scraping())("antiphon_ingest_events_total") == 0
        finally:
            nats_server.start()
    finally:
        postgres_server.start()

    async def caught_up() -> bool:
        found = await scraping()
        stored = found("antiphon_ingest_events_total", outcome="stored")
        return (stored, found("antiphon_bus_connected"), found("antiphon_ingest_backlog")) == (10, 1, 0)

    await eventually(caught_up)
    assert (await scraping())("antiphon_bus_reconnects_total") == 1
