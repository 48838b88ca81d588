"""The booking flow, a LiveKit server, agent workers and callers."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from livekit import api
from tests.fixtures.process_tree import kill_tree

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.deployment import deployment_of
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
    """A running agent worker."""

    process: subprocess.Popen[bytes]
    journals: Path
    health: str  # the URL of its readiness

    def job(self) -> psutil.Process:
        """Return the process of the running job: the one with an open journal."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if any(file.path.endswith(".journal") for file in child.open_files()):
                return child
        raise AssertionError("no job is running")


@dataclass
class Sessions:
    """Sessions, their events and their rooms, through the real servers."""

    bus: Bus
    livekit: LiveKitServer
    rooms: api.LiveKitAPI

    def of(self, bus: Bus) -> "Sessions":
        """Return the sessions of another deployment on the same LiveKit server."""
        return Sessions(bus, self.livekit, self.rooms)

    async def request(
        self, *, flow_id: str = "booking", revision: int = 1, agent_name: str | None = None, **limits: Any
    ) -> str:
        """Request a session and create its room with an agent, as session-api does."""
        deployment = await deployment_of(self.bus)
        session_id = new_session_id(datetime.now(UTC), secrets.token_bytes(10))
        event = SessionRequested(
            flow_id=flow_id, flow_revision=revision, user_id="u", room=session_id, **limits
        )
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
        await self.open_room(session_id, agent_name or deployment.agent_name, deployment.id)
        return session_id

    async def reopen_room(self, session_id: str, agent_name: str | None = None) -> None:
        """Create the room of a session again, with the dispatch of its agent."""
        deployment = await deployment_of(self.bus)
        await self.open_room(session_id, agent_name or deployment.agent_name, deployment.id)

    async def open_room(self, session_id: str, agent_name: str, deployment: str) -> None:
        """Create the room of a session, unless it exists, with the dispatch of an agent."""
        metadata = json.dumps({"session_id": session_id, "tenant": "default", "deployment": deployment})
        dispatch = api.RoomAgentDispatch(agent_name=agent_name, metadata=metadata)
        await self.rooms.room.create_room(
            api.CreateRoomRequest(name=session_id, departure_timeout=20, metadata=metadata, agents=[dispatch])
        )

    def caller(self, session_id: str, identity: str = "caller", *, by_phone: bool = False) -> Caller:
        """Return a caller who can join the session."""
        keys = self.livekit.keys
        grants = api.VideoGrants(room_join=True, room=session_id)
        token = api.AccessToken(keys.key, keys.secret).with_identity(identity).with_grants(grants)
        return Caller(self.livekit.url, (token.with_kind("sip") if by_phone else token).to_jwt())

    async def events(self, session_id: str) -> list[Envelope]:
        """Return the events of a session."""
        return [decode(stored.payload) async for stored in self.bus.read(session_filter("*", session_id))]

    async def wait_for(self, session_id: str, event_type: str) -> Envelope:
        """Wait for an event of a session."""
        async with asyncio.timeout(EVENT_SECONDS):
            while True:
                for envelope in await self.events(session_id):
                    if envelope.type == event_type:
                        return envelope
                await asyncio.sleep(0.05)

    async def wait_until_closed(self, session_id: str) -> None:
        """Wait until the session's room is closed."""
        async with asyncio.timeout(EVENT_SECONDS):
            while await self.is_open(session_id):  # noqa: ASYNC110 - LiveKit has no event for it
                await asyncio.sleep(0.05)

    async def is_open(self, session_id: str) -> bool:
        """Return whether the session's room is open."""
        found = await self.rooms.room.list_rooms(api.ListRoomsRequest(names=[session_id]))
        return len(found.rooms) > 0


@pytest.fixture(scope="session")
def booking() -> Flow:
    """The flow of flows/booking.yaml."""
    return load_flow(FLOWS / "booking.yaml", CATALOG)


@pytest.fixture
def bound(booking: Flow) -> BoundFlow:
    """The booking flow in a session without metadata."""
    return bind(booking, CATALOG)


@pytest.fixture(scope="session")
def livekit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """A LiveKit server of the supported version; `make test` builds it."""
    program = find_livekit(StackSettings().cache, print)
    server = LiveKitServer(tmp_path_factory.mktemp("livekit"), program=program, keys=Keys.generate())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def live_sessions(bus: Bus, livekit: LiveKitServer) -> AsyncIterator[Sessions]:
    """Everything that a call needs, except the agent."""
    await publish_flows(bus, FLOWS, tenant="default", now=lambda: datetime.now(UTC))
    async with api.LiveKitAPI(livekit.url, livekit.keys.key, livekit.keys.secret) as rooms:
        yield Sessions(bus, livekit, rooms)


@pytest.fixture
def start_worker(
    bus: Bus, nats_server: NatsServer, livekit: LiveKitServer, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    """Start workers and wait until they are ready; they are killed after the test."""
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
            worker = Worker(process, tmp_path / "journals", f"http://127.0.0.1:{port}/health/ready")
            _wait_until_ready(process, worker.health)
            return worker

        yield start


@contextmanager
def _workers() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        kill_tree(process.pid)
        process.wait(10)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the worker exited"
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the worker did not become ready")
