"""The process: publishes a webhook with only a broker, stops on SIGTERM."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import httpx
from tests.fixtures import leftovers

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.subjects import ALL_EVENTS, PROBE
from antiphon.webhook_ingest.app import PATH

Process = asyncio.subprocess.Process


async def _start(**variables: str) -> Process:
    environment = {
        "PATH": os.environ["PATH"],
        leftovers.RUN: os.environ[leftovers.RUN],
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters!!",
        "ANTIPHON_WEBHOOKS_PORT": str(free_port()),
        **variables,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.webhook_ingest", env=environment, stderr=asyncio.subprocess.PIPE
    )


async def _end(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def _until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def test_publishes_webhooks_until_sigterm(
    bus: Bus, nats_server: NatsServer, webhook: Callable[..., bytes], sign: Callable[..., str]
) -> None:
    port = free_port()
    process = await _start(ANTIPHON_NATS_URL=nats_server.url, ANTIPHON_WEBHOOKS_PORT=str(port))
    body = webhook()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await _until_ready(client)
        response = await client.post(PATH, content=body, headers={"Authorization": sign(body)})
        checks = (await client.get("/health/ready")).json()["checks"]
    process.send_signal(signal.SIGTERM)

    code, errors = await _end(process)
    assert (response.status_code, code) == (200, 0), errors
    assert checks["deployment"]["ok"]
    stored = [incoming.subject async for incoming in bus.read(ALL_EVENTS)]
    assert len([subject for subject in stored if subject != PROBE]) == 1
    assert "webhook.published" in errors


async def test_unfinished_bodies_without_a_signature_are_refused_at_once(
    nats_server: NatsServer, webhook: Callable[..., bytes], sign: Callable[..., str]
) -> None:
    port = free_port()
    process = await _start(
        ANTIPHON_NATS_URL=nats_server.url,
        ANTIPHON_WEBHOOKS_PORT=str(port),
        ANTIPHON_WEBHOOKS_MAX_CONNECTIONS="20",
    )
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n".encode()
    body = webhook()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await _until_ready(client)
        unfinished = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        for _, writer in unfinished:
            writer.write(head + b"v" * 100_000)
        refused = await asyncio.wait_for(unfinished[-1][0].readline(), 10)
        response = await client.post(PATH, content=body, headers={"Authorization": sign(body)})
    process.send_signal(signal.SIGTERM)

    code, errors = await _end(process)
    assert refused.startswith(b"HTTP/1.1 401")
    assert (response.status_code, code) == (200, 0), errors
    for _, writer in unfinished:
        writer.transport.abort()


async def test_invalid_setting_exits_with_the_name_of_the_variable() -> None:
    process = await _start(ANTIPHON_WEBHOOKS_PORT="70000")

    code, errors = await _end(process)

    assert code == 2
    assert "ANTIPHON_WEBHOOKS_PORT" in errors


async def test_sigterm_ends_the_wait_for_the_broker() -> None:
    connected = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await writer.wait_closed()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        process = await _start(ANTIPHON_NATS_URL=f"nats://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
        await asyncio.wait_for(connected.wait(), 60)
        process.send_signal(signal.SIGTERM)

        code, errors = await _end(process)

    assert code == 0, errors
    assert "process.failed" not in errors
