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
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.ports import free_port
from antiphon.cli.supervisor.state import Addresses
from antiphon.contracts.ids import new_session_id
from antiphon.session_api.livekit import LiveKit

from .load import Connection, post, throughput
from .report import Report, Result, Servers

KEY = "benchmark"
# the load is more than one client should cause
UNLIMITED = {
    f"ANTIPHON_API_{limit}": "0"
    for limit in (
        "RATE_REQUESTS_PER_KEY",
        "RATE_REQUESTS_PER_TENANT",
        "RATE_CREATES_PER_TENANT",
        "RATE_FAILURES_PER_ADDRESS",
        "QUOTA_SESSIONS_PER_TENANT",
        "QUOTA_STREAMS_PER_KEY",
        "QUOTA_STREAMS_PER_TENANT",
    )
}
AGENT = "benchmark-no-agent"  # no worker has this name, so that only the create is measured
REQUEST = post("/v1/sessions", b'{"flow_id":"benchmark","user_id":"ada","metadata":{"order":"A-17"}}', KEY)
CONCURRENCY = {1: None, 8: None, 32: None, 128: 0.8}  # and the ratio aimed at
SECONDS = 0.7
PASSES = 5
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
    await prepare(nats_url)
    variables = {"ANTIPHON_NATS_URL": nats_url, "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s" * 32}
    async with (
        serving(("tests.benchmarks.create_server", "bare"), variables) as (bare_port, _),
        serving(("tests.benchmarks.create_server", "two"), variables) as (two_port, _),
        serving(("tests.benchmarks.create_server", "ours"), variables) as (our_port, _),
    ):
        for connections, target in CONCURRENCY.items():
            report.step(f"load each in turn, {connections} at a time", seconds=60)
            figures: dict[int, list[float]] = {bare_port: [], two_port: [], our_port: []}
            for _ in range(PASSES):
                for port, measured in figures.items():
                    measured.append(await throughput(port, REQUEST, connections=connections, seconds=SECONDS))
            bare, two, ours = (statistics.median(measured) for measured in figures.values())
            report.row(_against(f"create, {connections} at a time", ours, bare, target))
            report.row(_against(f"floor: two acknowledged publishes, {connections} at a time", two, bare))
        report.step(f"{CREATES} creates, one at a time", seconds=120)
        bare_p50, our_p50 = await _p50s(_requests(bare_port), _requests(our_port))
        report.row(
            Result(
                name="create, one at a time, with a LiveKit that answers at once, p50",
                value=our_p50,
                unit="ms",
                baseline_name="bare route",
                baseline=bare_p50,
                target=3.0,
            )
        )


def _against(name: str, value: float, bare: float, target: float | None = None) -> Result:
    return Result(
        name=name,
        value=value,
        unit="requests/s",
        baseline_name="bare route with one publish",
        baseline=bare,
        target=target,
        compared="ratio",
        better="higher",
    )


async def _with_livekit(where: Addresses, report: Report) -> None:
    report.step("start session-api on LiveKit", seconds=90)
    await prepare(where.nats_url)
    key, secret = str(where.livekit_api_key), str(where.livekit_api_secret)
    variables = {
        "ANTIPHON_NATS_URL": where.nats_url,
        "ANTIPHON_AGENT_NAME": AGENT,
        "LIVEKIT_URL": where.livekit_url,
        "LIVEKIT_API_KEY": key,
        "LIVEKIT_API_SECRET": secret,
    }
    rooms = LiveKit(where.livekit_url, LiveKitKeys(key, secret), deployment="benchmrk", timeout_seconds=5)

    async def create_room() -> None:
        await rooms.create_room(new_session_id(datetime.now(UTC), os.urandom(10)), "default", AGENT)

    try:
        async with serving(("antiphon.session_api",), variables) as (port, _):
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


async def prepare(nats_url: str) -> None:
    bus = await Bus.connect(nats_url, name="benchmark")
    await bus.ensure()
    key = {"tenant": "default", "name": KEY, "scopes": ["sessions:write", "sessions:read"]}
    await (await bus.bucket("keys")).put(hashlib.sha256(KEY.encode()).hexdigest(), json.dumps(key).encode())
    flow = {"flow_id": "benchmark", "revision": 1, "sha256": "0" * 64, "source": ""}
    await (await bus.bucket("flows")).put("default.benchmark.1", json.dumps(flow).encode())
    await bus.close()


@asynccontextmanager
async def serving(module: tuple[str, ...], variables: dict[str, str]) -> AsyncIterator[tuple[int, int]]:
    """Run a server in a subprocess, without its log, and stop it; return its port and its process id."""
    port = free_port()
    environment = {
        **os.environ,
        # counted, and never reached
        "ANTIPHON_API_RATE_REQUESTS_PER_KEY": "1000000",
        "ANTIPHON_API_RATE_CREATES_PER_TENANT": "1000000",
        "ANTIPHON_POSTGRES_DSN": "postgresql://127.0.0.1:1/none",
        "ANTIPHON_API_PORT": str(port),
        **UNLIMITED,
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _answering(port, process)
        yield port, process.pid
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
