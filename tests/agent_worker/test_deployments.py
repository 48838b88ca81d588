"""Two deployments on one LiveKit server: each serves and records only its own sessions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus
from antiphon.chassis.deployment import deployment_of
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.subjects import ALL_EVENTS, PROBE

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

FLOWS = Path(__file__).parents[2] / "flows"
OWN_AGENT = ("-m", "tests.agent_worker.recorded_agent")
SECONDS = 60


@pytest.fixture
async def other_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """The broker of another deployment."""
    server = NatsServer(tmp_path / "other-nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def other_bus(other_nats: NatsServer) -> AsyncIterator[Bus]:
    """The bus of another deployment, with the same flows."""
    bus = await Bus.connect(other_nats.url, name="other")
    await bus.ensure()
    await publish_flows(bus, FLOWS, tenant="default", now=lambda: datetime.now(UTC))
    yield bus
    await bus.close()


async def sessions_in(bus: Bus) -> set[str]:
    """Return the sessions that have events in a deployment."""
    stored = [message async for message in bus.read(ALL_EVENTS)]
    return {decode(message.payload).subject for message in stored if message.subject != PROBE}


async def test_workers_of_the_same_name_take_only_jobs_of_their_deployment(
    live_sessions: "Sessions",
    start_worker: StartWorker,
    bus: Bus,
    other_bus: Bus,
    other_nats: NatsServer,
    tmp_path: Path,
) -> None:
    start_worker(ANTIPHON_AGENT_NAME="desk")
    start_worker(
        ANTIPHON_AGENT_NAME="desk",
        ANTIPHON_NATS_URL=other_nats.url,
        ANTIPHON_JOURNAL_DIR=str(tmp_path / "other-journals"),
    )
    others = live_sessions.of(other_bus)

    requested = [
        (sessions, await sessions.request(agent_name="desk")) for sessions in (live_sessions, others) * 2
    ]
    for sessions, session_id in requested:
        await sessions.wait_for(session_id, AgentJoined.TYPE)

    assert await sessions_in(bus) == {known for sessions, known in requested if sessions is live_sessions}
    assert await sessions_in(other_bus) == {known for sessions, known in requested if sessions is others}


async def test_recorder_does_not_record_the_session_of_another_deployment(
    live_sessions: "Sessions", start_worker: StartWorker, bus: Bus, other_bus: Bus
) -> None:
    start_worker(*OWN_AGENT)  # whose broker is not the one of the session
    await deployment_of(bus)
    others = live_sessions.of(other_bus)

    session_id = await others.request(agent_name="echo")
    async with others.caller(session_id) as caller:
        assert await caller.wait_until_gone(timeout_seconds=SECONDS)  # its agent has served the call
        spoken = [line.text for line in caller.agent_lines]

    # lines may have been spoken before the caller listens
    assert not spoken or spoken[-1] == "You said: good bye"
    await asyncio.sleep(1)  # nothing tells that nothing was published
    assert await sessions_in(bus) == set()
    assert await sessions_in(other_bus) == {session_id}
