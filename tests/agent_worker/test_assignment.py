"""The assignment of a job, read from a broker that may be unavailable."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from antiphon.agent_worker import assignment, flow
from antiphon.agent_worker.assignment import AssignmentFailed, read_assignment
from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.ids import named_session_id, requested_id
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

IDENTITY = Identity(named_session_id("default", "assignment"), "default")
AT = datetime(2026, 1, 2, tzinfo=UTC)
FLOWS = Path(__file__).parents[2] / "flows"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, connect_timeout_seconds=0.5))
    yield link
    await link.close()


async def request(bus: Bus, revision: int = 1) -> None:
    event = SessionRequested(flow_id="booking", flow_revision=revision, user_id="u", room=IDENTITY.session_id)
    envelope = seal(
        event,
        id=requested_id(IDENTITY.session_id),
        session_id=IDENTITY.session_id,
        tenant=IDENTITY.tenant,
        producer="session-api",
        producerseq=1,
        time=AT,
        traceparent=TRACEPARENT,
    )
    await bus.publish(outgoing(envelope))


async def publish(bus: Bus) -> None:
    await publish_flows(bus, FLOWS, tenant="default", now=lambda: AT)


async def test_assignment_has_flow_and_trace(bus: Bus, link: BusLink) -> None:
    await publish(bus)
    await request(bus)
    assigned = await read_assignment(link, IDENTITY, 10)
    assert assigned.bound.flow.id == "booking"
    assert assigned.requested_at == AT
    assert assigned.traceparent == TRACEPARENT


async def test_the_flow_is_checked_in_a_thread(
    bus: Bus, link: BusLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(bus)
    await request(bus)
    threads: list[threading.Thread] = []

    def load_flow(*arguments: Any, **options: Any) -> Flow:
        threads.append(threading.current_thread())
        return flow.load_flow(*arguments, **options)

    monkeypatch.setattr(assignment, "load_flow", load_flow)
    await read_assignment(link, IDENTITY, 10)
    assert threads
    assert threading.main_thread() not in threads


async def test_other_events_of_the_session_are_ignored(bus: Bus, link: BusLink) -> None:
    await publish(bus)
    await request(bus)
    joined = AgentJoined(job_id="AJ_1", worker_id="w", epoch="AJ_1", identity="agent")
    envelope = seal(
        joined,
        id="1",
        session_id=IDENTITY.session_id,
        tenant="default",
        producer="agent",
        producerseq=1,
        time=AT,
    )
    await bus.publish(outgoing(envelope))
    assert (await read_assignment(link, IDENTITY, 10)).bound.flow.id == "booking"


async def test_missing_revision_raises(bus: Bus, link: BusLink) -> None:
    await publish(bus)
    await request(bus, revision=9)
    with pytest.raises(AssignmentFailed, match="flow booking has no revision 9"):
        await read_assignment(link, IDENTITY, 10)


async def test_session_without_a_request_raises(bus: Bus, link: BusLink) -> None:
    with pytest.raises(AssignmentFailed, match=f"session {IDENTITY.session_id} has not been requested"):
        await read_assignment(link, IDENTITY, 10)


async def test_assignment_waits_for_the_broker(bus: Bus, link: BusLink, nats_server: NatsServer) -> None:
    await publish(bus)
    await request(bus)
    nats_server.stop()
    reading = asyncio.create_task(read_assignment(link, IDENTITY, 30))
    await asyncio.sleep(1)
    assert not reading.done()
    nats_server.start()
    assert (await reading).bound.flow.id == "booking"


async def test_timeout_raises(bus: Bus, link: BusLink, nats_server: NatsServer) -> None:
    nats_server.stop()
    with pytest.raises(AssignmentFailed, match=r"did not answer within 0\.5 s"):
        await read_assignment(link, IDENTITY, 0.5)


async def test_ended_session_raises(bus: Bus, link: BusLink) -> None:
    await publish(bus)
    await request(bus)
    ended = SessionClosed(reason=CloseReason.CANCELLED, fault=FaultSide.NONE, duration_seconds=1.0, turns=0)
    envelope = seal(
        ended,
        id="1",
        session_id=IDENTITY.session_id,
        tenant="default",
        producer="session-api",
        producerseq=3,
        time=AT,
    )
    await bus.publish(outgoing(envelope))

    with pytest.raises(AssignmentFailed, match="has already ended"):
        await read_assignment(link, IDENTITY, 10)
