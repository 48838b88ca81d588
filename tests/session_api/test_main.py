"""The process: starts without Postgres and LiveKit, fails without a broker, stops on SIGTERM."""

import asyncio
import os
import signal
import socket
import sys
from typing import Any

import httpx
import pytest
from tests.fixtures import leftovers

from antiphon.chassis.bus import Bus
from antiphon.chassis.deployment import deployment_of
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.api_keys import ApiKey, encode_key, key_digest
from antiphon.contracts.deployment import IDENTITY_KEY

Process = asyncio.subprocess.Process


async def _start(**variables: str) -> Process:
    environment = {
        "PATH": os.environ["PATH"],
        leftovers.RUN: os.environ[leftovers.RUN],
        "ANTIPHON_POSTGRES_DSN": "postgresql://127.0.0.1:1/nowhere",
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "a-secret-of-at-least-32-characters!!",
        "ANTIPHON_API_PORT": str(free_port()),
        **variables,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.session_api", env=environment, stderr=asyncio.subprocess.PIPE
    )


async def _end(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_serves_with_only_a_broker_until_sigterm(bus: Bus, nats_server: NatsServer, until: Any) -> None:
    port = free_port()
    process = await _start(ANTIPHON_NATS_URL=nats_server.url, ANTIPHON_API_PORT=str(port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def ready() -> bool:
            try:
                return (await client.get("/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

        async def unready_for(reason: str) -> bool:
            response = await client.get("/health/ready")
            detail = response.json()["checks"]["deployment"]["detail"]
            return response.status_code == 503 and reason in detail

        await until(ready)
        refused = await client.get("/v1/sessions")
        await (await bus.bucket("deployment")).delete(IDENTITY_KEY)
        made = await deployment_of(bus)
        await until(lambda: unready_for(f"to {made.id}: restart every service"))
    process.send_signal(signal.SIGTERM)

    code, errors = await _end(process)
    assert refused.status_code == 401
    assert code == 0, errors


async def test_serves_the_keys_that_there_are_when_a_new_first_key_cannot_be_on_record(
    bus: Bus, nats_server: NatsServer, until: Any
) -> None:
    key = ApiKey(tenant="default", name="there", scopes=frozenset({"admin"}))
    await (await bus.bucket("keys")).put(key_digest("there"), encode_key(key))
    info = await bus.connection.api("STREAM.INFO.KV_audit")
    await bus.connection.api("STREAM.UPDATE.KV_audit", info["config"] | {"max_bytes": 10})
    port = free_port()
    process = await _start(
        ANTIPHON_NATS_URL=nats_server.url,
        ANTIPHON_API_PORT=str(port),
        ANTIPHON_BOOTSTRAP_API_KEY="a-new-first-key-of-32-characters",
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def served() -> bool:
            assert process.returncode is None
            try:
                answer = await client.get("/v1/keys", headers={"Authorization": "Bearer there"})
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        await until(served)
    process.send_signal(signal.SIGTERM)

    code, errors = await _end(process)
    assert code == 0, errors
    assert "keys.not_bootstrapped" in errors
    assert "a-new-first-key" not in errors


async def test_invalid_setting_exits_with_the_name_of_the_variable() -> None:
    process = await _start(ANTIPHON_API_PORT="no-port")

    code, errors = await _end(process)

    assert code == 2
    assert "ANTIPHON_API_PORT" in errors
    assert "no-port" in errors


@pytest.mark.timeout(60)
async def test_start_fails_without_a_broker() -> None:
    process = await _start(ANTIPHON_NATS_URL="nats://127.0.0.1:1")

    code, errors = await _end(process)

    assert code == 1
    assert "127.0.0.1:1" in errors


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


async def test_a_port_in_use_ends_the_process_before_it_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _start(ANTIPHON_API_PORT=str(port), ANTIPHON_NATS_URL="nats://127.0.0.1:1")

        code, errors = await _end(process)

    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors
    assert "nats" not in errors
    assert "Traceback" not in errors
