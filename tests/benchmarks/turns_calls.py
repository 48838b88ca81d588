"""The calls of the benchmark `turns`: one of ours and one of the plain agent, and a caller in each."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from livekit import api
from tests.fixtures.process_tree import kill_tree

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus
from antiphon.cli.caller import AgentNeverReady, Caller
from antiphon.cli.supervisor.state import Addresses
from antiphon.client import AsyncAntiphon

from .turns_cases import CASES, Case
from .turns_plain import NAME

READY_SECONDS = 60
REGISTER_SECONDS = 90
LOG_CHARACTERS = 2_000


async def publish(where: Addresses, folder: Path, doubles_url: str) -> None:
    """Publish the flows of all cases."""
    flows = folder / "flows"
    flows.mkdir()
    for case in CASES:
        (flows / f"{case.flow_id}.yaml").write_text(case.flow(doubles_url))
    bus = await Bus.connect(where.nats_url, name="bench")
    try:
        await publish_flows(bus, flows, tenant="default", now=lambda: datetime.now(UTC))
    finally:
        await bus.close()


@asynccontextmanager
async def our_call(where: Addresses, case: Case) -> AsyncIterator[Caller]:
    """Call our agent, and wait until it is ready."""
    async with AsyncAntiphon(where.api_url, where.api_key) as client:
        created = await client.sessions.create(flow_id=case.flow_id, user_id="bench", can_publish_data=True)
    async with Caller(created.livekit_url, str(created.token)) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        yield caller


class PlainAgent:
    """The worker of the plain agent."""

    def __init__(self, where: Addresses, output: Path) -> None:
        self._where = where
        self._output = output

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, without waiting, and stop it at the end."""
        environment = {
            **os.environ,
            "LIVEKIT_URL": self._where.livekit_url,
            "LIVEKIT_API_KEY": str(self._where.livekit_api_key),
            "LIVEKIT_API_SECRET": str(self._where.livekit_api_secret),
        }
        command = [sys.executable, "-m", "tests.benchmarks.turns_plain"]
        with self._output.open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            kill_tree(process.pid)
            process.wait(10)

    async def registered(self) -> None:
        """Wait until it takes jobs. Raises RuntimeError with the end of its log."""
        deadline = time.monotonic() + REGISTER_SECONDS
        while "registered worker" not in self.log():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the plain agent did not start: {self.log()[-LOG_CHARACTERS:]}")
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def call(self, flow: str) -> AsyncIterator[Caller]:
        """Call it, and wait until it is ready. Raises RuntimeError with the end of its log."""
        where, room = self._where, f"plain-{uuid4().hex}"
        key, secret = str(where.livekit_api_key), str(where.livekit_api_secret)
        async with api.LiveKitAPI(where.livekit_url, key, secret) as livekit:
            dispatch = api.RoomAgentDispatch(agent_name=NAME, metadata=json.dumps({"flow": flow}))
            await livekit.room.create_room(api.CreateRoomRequest(name=room, agents=[dispatch]))
            try:
                grants = api.VideoGrants(room_join=True, room=room)
                token = api.AccessToken(key, secret).with_identity("caller").with_grants(grants).to_jwt()
                async with Caller(where.livekit_url, token) as caller:
                    await self._ready(caller)
                    yield caller
            finally:  # else the job runs on beside the next case
                await livekit.room.delete_room(api.DeleteRoomRequest(room=room))

    def log(self) -> str:
        """Return what it has written."""
        return self._output.read_text(errors="replace")

    async def _ready(self, caller: Caller) -> None:
        try:
            await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        except AgentNeverReady as error:
            raise RuntimeError(
                f"the plain agent: {error}; its log: {self.log()[-LOG_CHARACTERS:]}"
            ) from error
