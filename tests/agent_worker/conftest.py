"""A real LiveKit server, agents that take its calls, and somebody who calls."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from livekit import api

from antiphon.agent_worker.publish_flows import publish_flows
from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.caller import Caller
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit import Keys, LiveKitServer
from antiphon.cli.stack.livekit_build import find_livekit
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.envelope import Envelope, decode, seal
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.ids import new_session_id, requested_id
from antiphon.contracts.subjects import session_filter

FLOWS = Path(__file__).parents[2] / "flows"
READY_SECONDS = 90.0
EVENT_SECONDS = 60.0


@dataclass
class Worker:
    """A running agent-worker."""

    process: subprocess.Popen[bytes]
    journals: Path

    def job(self) -> psutil.Process:
        """Return the process that serves a call: the one that holds a journal open."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if any(file.path.endswith(".journal") for file in child.open_files()):
                return child
        raise AssertionError("no job is running")


@dataclass
class Telephone:
    """Make sessions, and read what is recorded of them."""

    bus: Bus
    livekit: LiveKitServer
    rooms: api.LiveKitAPI
    sessions: list[str] = field(default_factory=list)

    async def ring(self, *, revision: int = 1, agent_name: str = "antiphon") -> str:
        """Request a session and its room with an agent, as session-api does."""
        session_id = new_session_id(datetime.now(UTC), secrets.token_bytes(10))
        event = SessionRequested(flow_id="booking", flow_revision=revision, user_id="u", room=session_id)
        envelope = seal(
            event,
            id=requested_id(session_id),
            session_id=session_id,
            tenant="default",
            producer="session-api",
            producerseq=1,
            time=datetime.now(UTC),
        )
        await self.bus.publish(outgoing(envelope))
        metadata = json.dumps({"session_id": session_id, "tenant": "default"})
        dispatch = api.RoomAgentDispatch(agent_name=agent_name, metadata=metadata)
        await self.rooms.room.create_room(
            api.CreateRoomRequest(name=session_id, departure_timeout=20, agents=[dispatch])
        )
        self.sessions.append(session_id)
        return session_id

    def caller(self, session_id: str) -> Caller:
        """Return somebody who can join the session."""
        keys = self.livekit.keys
        grants = api.VideoGrants(room_join=True, room=session_id)
        token = api.AccessToken(keys.key, keys.secret).with_identity("caller").with_grants(grants).to_jwt()
        return Caller(self.livekit.url, token)

    async def events(self, session_id: str) -> list[Envelope]:
        """Return what is recorded of a session."""
        return [decode(stored.payload) async for stored in self.bus.read(session_filter("*", session_id))]

    async def wait_for(self, session_id: str, event_type: str) -> Envelope:
        """Wait for an event of a session."""
        async with asyncio.timeout(EVENT_SECONDS):
            while True:
                for envelope in await self.events(session_id):
                    if envelope.type == event_type:
                        return envelope
                await asyncio.sleep(0.05)

    async def wait_until_gone(self, session_id: str) -> None:
        """Wait until the session's room is no more."""
        async with asyncio.timeout(EVENT_SECONDS):
            while await self.is_open(session_id):  # noqa: ASYNC110 - LiveKit says nothing by itself
                await asyncio.sleep(0.05)

    async def is_open(self, session_id: str) -> bool:
        """Whether the session's room stands."""
        found = await self.rooms.room.list_rooms(api.ListRoomsRequest(names=[session_id]))
        return len(found.rooms) > 0


@pytest.fixture(scope="session")
def livekit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """A LiveKit server of our version; `make test` has built it."""
    program = find_livekit(StackSettings().cache, print)
    server = LiveKitServer(tmp_path_factory.mktemp("livekit"), program=program, keys=Keys.generate())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def telephone(bus: Bus, livekit: LiveKitServer) -> AsyncIterator[Telephone]:
    """Everything that a call needs, but the agent."""
    await publish_flows(bus, FLOWS, tenant="default", now=lambda: datetime.now(UTC))
    async with api.LiveKitAPI(livekit.url, livekit.keys.key, livekit.keys.secret) as rooms:
        yield Telephone(bus, livekit, rooms)


@pytest.fixture
def start_worker(
    bus: Bus, nats_server: NatsServer, livekit: LiveKitServer, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    """Start workers that are ready; they are stopped at the end."""
    with _workers() as started:

        def start(*command: str, **environment: str) -> Worker:
            port = free_port()
            variables = {
                "ANTIPHON_NATS_URL": nats_server.url,
                "ANTIPHON_JOURNAL_DIR": str(tmp_path / "journals"),
                "ANTIPHON_AGENT_HEALTH_PORT": str(port),
                "ANTIPHON_AGENT_LOAD_THRESHOLD": "inf",
                "LIVEKIT_URL": livekit.url,
                "LIVEKIT_API_KEY": livekit.keys.key,
                "LIVEKIT_API_SECRET": livekit.keys.secret,
                **environment,
            }
            argv = [sys.executable, *(command or ("-m", "antiphon.agent_worker", "run"))]
            process = subprocess.Popen(argv, env={**os.environ, **variables})
            started.append(process)
            _wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
            return Worker(process, tmp_path / "journals")

        yield start


@contextmanager
def _workers() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()  # its jobs end by themselves when it is gone
        process.wait(10)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the worker has ended"
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the worker did not become ready")
