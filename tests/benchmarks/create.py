"""Create: throughput against a bare FastAPI route with one publish; what it adds to LiveKit's CreateRoom."""

import asyncio
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.fixtures.stack_settings import isolated_settings

from antiphon.chassis.bus import Bus
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.ports import free_port
from antiphon.cli.supervisor.state import Addresses
from antiphon.contracts.ids import new_session_id
from antiphon.session_api.livekit import LiveKit

from .load import Connection, post, throughput
from .report import Report, Result, Servers

KEY = "benchmark"
AGENT = "benchmark-no-agent"  # no worker has this name, so that only the create is measured
REQUEST = post("/v1/sessions", b'{"flow_id":"benchmark","user_id":"ada","metadata":{"order":"A-17"}}', KEY)
CONNECTIONS = 128
SECONDS = 1.5
PASSES = 8
CREATES = 300


async def run(servers: Servers, report: Report) -> None:
    """Load a bare route and session-api in turn; then compare creates with LiveKit's CreateRoom alone."""
    await _without_livekit(servers.nats_url, report)
    report.step("start a whole stack", seconds=240)
    with EmbeddedStack(isolated_settings(Path(servers.folder) / "stack")) as stack:
        await _with_livekit(stack.status().addresses, report)
        report.step("stop the stack", seconds=120)


async def _without_livekit(nats_url: str, report: Report) -> None:
    report.step("start the bare route and session-api", seconds=90)
    await _prepare(nats_url)
    variables = {"ANTIPHON_NATS_URL": nats_url, "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s" * 32}
    async with (
        _serving(("tests.benchmarks.create_server", "bare"), variables) as bare_port,
        _serving(("tests.benchmarks.create_server", "ours"), variables) as our_port,
    ):
        bare: list[float] = []
        ours: list[float] = []
        for number in range(1, PASSES + 1):
            report.step(f"load both in turn, pass {number} of {PASSES}", seconds=30)
            for port, figures in ((bare_port, bare), (our_port, ours)):
                figures.append(await throughput(port, REQUEST, connections=CONNECTIONS, seconds=SECONDS))
        report.row(
            Result(
                name=f"create, {CONNECTIONS} at a time",
                value=statistics.median(ours),
                unit="requests/s",
                baseline_name="bare route with one publish",
                baseline=statistics.median(bare),
                target=0.8,
                compared="ratio",
                better="higher",
            )
        )
        report.step(f"{CREATES} creates, one at a time", seconds=120)
        bare_p50, our_p50 = await _p50s(_requests(bare_port), _requests(our_port))
        report.row(
            Result(
                name="create, one at a time, p50",
                value=our_p50,
                unit="ms",
                baseline_name="bare route",
                baseline=bare_p50,
            )
        )


async def _with_livekit(where: Addresses, report: Report) -> None:
    report.step("start session-api on LiveKit", seconds=90)
    await _prepare(where.nats_url)
    key, secret = str(where.livekit_api_key), str(where.livekit_api_secret)
    variables = {
        "ANTIPHON_NATS_URL": where.nats_url,
        "ANTIPHON_AGENT_NAME": AGENT,
        "LIVEKIT_URL": where.livekit_url,
        "LIVEKIT_API_KEY": key,
        "LIVEKIT_API_SECRET": secret,
    }
    rooms = LiveKit(where.livekit_url, key, secret, deployment="benchmrk", timeout_seconds=5)

    async def create_room() -> None:
        await rooms.create_room(new_session_id(datetime.now(UTC), os.urandom(10)), "default", AGENT)

    try:
        async with _serving(("antiphon.session_api",), variables) as port:
            report.step(f"{CREATES} creates on LiveKit, one at a time", seconds=120)
            alone, create = await _p50s(create_room, _requests(port))
    finally:
        await rooms.close()
    report.row(
        Result(
            name="create on LiveKit, p50",
            value=create,
            unit="ms",
            baseline_name="CreateRoom alone",
            baseline=alone,
        )
    )
    report.row(
        Result(name="create: what it adds to CreateRoom, p50", value=create - alone, unit="ms", target=3.0)
    )


async def _prepare(nats_url: str) -> None:
    bus = await Bus.connect(nats_url, name="benchmark")
    await bus.ensure()
    key = {"tenant": "default", "name": KEY, "scopes": ["sessions:write", "sessions:read"]}
    await (await bus.bucket("keys")).put(hashlib.sha256(KEY.encode()).hexdigest(), json.dumps(key).encode())
    flow = {"flow_id": "benchmark", "revision": 1, "sha256": "0" * 64, "source": ""}
    await (await bus.bucket("flows")).put("default.benchmark.1", json.dumps(flow).encode())
    await bus.close()


@asynccontextmanager
async def _serving(module: tuple[str, ...], variables: dict[str, str]) -> AsyncIterator[int]:
    """Run a server in a subprocess, without its log, and stop it."""
    port = free_port()
    environment = {
        **os.environ,
        "ANTIPHON_POSTGRES_DSN": "postgresql://127.0.0.1:1/none",
        "ANTIPHON_API_PORT": str(port),
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _answering(port, process)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answering(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while process.returncode is None:
            try:
                connection = await Connection.open(port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                connection.close()
                return
    raise RuntimeError(f"the server ended with {process.returncode}")


def _requests(port: int) -> Callable[[], Awaitable[None]]:
    connections: list[Connection] = []

    async def send() -> None:
        if not connections:
            connections.append(await Connection.open(port))
        status, body = await connections[0].send(REQUEST)
        if status != 201:
            raise RuntimeError(f"{status}: {body.decode()}")

    return send


async def _p50s(*calls: Callable[[], Awaitable[None]]) -> list[float]:
    """Time calls in turn, one at a time, and return the median of each in milliseconds."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(CREATES):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1000)
    return [statistics.median(taken) for taken in times]
