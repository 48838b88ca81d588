"""The process: with a broker and the API server of Kubernetes it answers, without heartbeats it is a 503."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
from tests.fixtures import leftovers
from tests.fleet.api_server import serve
from tests.fleet.conftest import Beat

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.workers import WorkerHeartbeat, worker_subject

WAIT_SECONDS = 60.0

Process = asyncio.subprocess.Process


async def start(**variables: str) -> Process:
    environment = {"PATH": os.environ["PATH"], leftovers.RUN: os.environ[leftovers.RUN], **variables}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.fleet", env=environment, stderr=asyncio.subprocess.PIPE
    )


async def end(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(WAIT_SECONDS):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


@asynccontextmanager
async def fleet(server: NatsServer, **variables: str) -> AsyncIterator[httpx.AsyncClient]:
    """A running service; it must end in order."""
    port = free_port()
    process = await start(ANTIPHON_NATS_URL=server.url, ANTIPHON_FLEET_PORT=str(port), **variables)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            await until(client, "/health/ready", 200)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        code, errors = await end(process)
    assert code == 0, errors


async def until(client: httpx.AsyncClient, path: str, status: int, text: str = "") -> httpx.Response:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                answer = await client.get(path)
                if answer.status_code == status and text in answer.text:
                    return answer
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def workers(server: NatsServer, *beats: WorkerHeartbeat) -> AsyncIterator[None]:
    """Workers that say the same again and again."""
    bus = await Bus.connect(server.url, name="workers")

    async def speak() -> None:
        while True:
            for beat in beats:
                await bus.announce(worker_subject(beat.worker), msgspec.json.encode(beat))
            await asyncio.sleep(0.2)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        await bus.close()


async def test_a_fleet_without_heartbeats_says_so_and_with_them_counts(
    nats_server: NatsServer, bus: Bus, beat: Beat
) -> None:
    async with fleet(nats_server, ANTIPHON_FLEET_WARM_CALLS="2") as client:
        silent = await client.get("/scale")
        await bus.announce("live.workers.x", b"{}")  # is no heartbeat
        await bus.announce("live.workers.x", msgspec.json.encode(beat("a", 100)))  # is of another worker
        async with workers(nats_server, beat("a", 3), beat("b", 4, draining=True)):
            scale = await until(client, "/scale", 200)
            each = (await client.get("/workers")).json()
            nats_server.kill()
            await until(client, "/health/ready", 503, "not connected")
            nats_server.start()
            again = await until(client, "/scale", 200)
        gone = await until(client, "/scale", 503)

    assert silent.status_code == 503
    assert silent.json()["type"].endswith("no-heartbeats")
    assert silent.headers["retry-after"] == "2"
    expected = {
        "active_calls": 3,
        "warm_calls": 2,
        "wanted_calls": 5,
        "workers": 1,
        "capacity": 10,
        "draining": {"workers": 1, "active_calls": 4},
    }
    assert scale.json() == again.json() == expected
    assert [(one["worker"], one["pod"]) for one in each] == [("a", "pod-a"), ("b", "pod-b")]
    assert "no worker has been heard" in gone.json()["detail"]


async def test_the_calls_are_written_on_the_pods(
    nats_server: NatsServer, bus: Bus, beat: Beat, tmp_path: Path
) -> None:
    with serve(tmp_path) as api_server:
        api_server.add("pod-a")
        api_server.add("pod-b", "7")
        variables = {
            "ANTIPHON_FLEET_DELETION_COST": "kubernetes",
            "ANTIPHON_FLEET_API_SERVER": api_server.url,
            "ANTIPHON_FLEET_SERVICE_ACCOUNT": str(tmp_path),
        }
        async with (
            fleet(nats_server, **variables) as client,
            workers(nats_server, beat("a", 3), beat("b")),
            asyncio.timeout(WAIT_SECONDS),
        ):
            while (api_server.cost("pod-a"), api_server.cost("pod-b")) != ("3", "0"):  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)
            api_server.refuse = 403
            async with workers(nats_server, beat("c", 1)):  # which is not known yet: the list is refused
                ready = await until(client, "/health/ready", 200, "list and patch")

    assert "idle pods may not be removed first" in ready.json()["checks"]["deletion costs"]["detail"]


async def test_invalid_settings_are_named(nats_server: NatsServer) -> None:
    code, errors = await end(await start(ANTIPHON_FLEET_DELETION_COST="yes"))
    assert (code, "ANTIPHON_FLEET_DELETION_COST is 'yes'" in errors) == (2, True)

    code, errors = await end(
        await start(ANTIPHON_NATS_URL=nats_server.url, ANTIPHON_FLEET_DELETION_COST="kubernetes")
    )
    assert (code, "this is no pod of Kubernetes" in errors) == (1, True)
