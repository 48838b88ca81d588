"""Which agents keep a session open: those that joined it, did not leave it and are in the room."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from livekit.agents import Agent
from tests.recorder.recorded_session import SESSION_ID, RecordedSession, recorded_session
from tests.recorder.test_recording import of_type

from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.events.session import FaultSide, SessionClosed
from antiphon.recorder import Recording, presence


@pytest.fixture
async def recorded(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RecordedSession]:
    async with recorded_session(bus, nats_server.url, tmp_path) as recorded:
        yield recorded


async def test_an_agent_that_was_killed_does_not_keep_the_session_open(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, event in enumerate((joined("killed"), joined("other"), left("other")), start=1):
        await publish(recorded.bus, event, number)
    present = {"agent-other"}
    monkeypatch.setattr(Recording, "_other_agents", lambda _: present)
    monkeypatch.setattr(presence, "has_caller", lambda _: True)
    await recorded.start(Agent(instructions=""))
    await recorded.session.aclose()
    present = set()
    assert await recorded.recording.finish()

    events = await recorded.events()
    assert [event.epoch for event in of_type(AgentLeft, events)] == ["other", "AJ_1"]
    assert len(of_type(SessionClosed, events)) == 1


async def test_an_agent_that_is_still_in_the_room_keeps_the_session_open(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(recorded.bus, joined("other"), 1)
    monkeypatch.setattr(Recording, "_other_agents", lambda _: {"agent-other"})
    monkeypatch.setattr(presence, "has_caller", lambda _: True)
    await recorded.start(Agent(instructions=""))
    await recorded.session.aclose()
    assert await recorded.recording.finish()

    events = await recorded.events()
    assert [event.epoch for event in of_type(AgentLeft, events)] == ["AJ_1"]
    assert of_type(SessionClosed, events) == []
    assert recorded.recording.session_continues


def joined(epoch: str) -> AgentJoined:
    return AgentJoined(job_id=epoch, worker_id="AW_1", epoch=epoch, identity=f"agent-{epoch}")


def left(epoch: str) -> AgentLeft:
    return AgentLeft(
        job_id=epoch, epoch=epoch, reason="agent_ended", fault=FaultSide.NONE, duration_seconds=1.0, turns=0
    )


async def publish(bus: Bus, event: Event, number: int) -> None:
    envelope = seal(
        event,
        id=f"another agent {number}",
        session_id=SESSION_ID,
        tenant="default",
        producer="agent",
        producerseq=number,
        time=datetime.now(UTC),
    )
    await bus.publish(outgoing(envelope))
