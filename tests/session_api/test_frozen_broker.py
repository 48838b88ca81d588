"""A broker that accepts and answers nothing: every route answers within its deadline."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from antiphon.cli.stack.nats import NatsServer

DEADLINE_SECONDS = 4.0
LONGEST_SECONDS = 20.0  # on a busy machine
CREATE = {"flow_id": "booking", "user_id": "ada"}


@pytest.fixture
async def frozen(start: Any, nats_server: NatsServer) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client of a session-api whose broker stands still, and a session that was created before."""
    running = await start(deadline_seconds=DEADLINE_SECONDS, broker_timeout_seconds=3.0)
    headers = {"Authorization": "Bearer writer"}
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=60) as client:
        created = await client.post("/v1/sessions", json=CREATE)
        process = nats_server.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield client, created.json()["session_id"]
        finally:
            os.kill(process.pid, signal.SIGCONT)


@pytest.mark.embedded_servers
@pytest.mark.timeout(120)
async def test_every_route_answers_within_its_deadline(frozen: tuple[httpx.AsyncClient, str]) -> None:
    client, session_id = frozen
    session = f"/v1/sessions/{session_id}"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/sessions", {"json": CREATE}),
        ("POST", "/v1/sessions", {"json": CREATE, "headers": {"Idempotency-Key": "order-17"}}),
        ("GET", "/v1/sessions", {}),
        ("GET", session, {}),
        ("HEAD", session, {}),
        ("GET", f"{session}/turns", {}),
        ("GET", f"{session}/events", {}),
        ("GET", f"{session}/events", {"headers": {"Accept": "text/event-stream"}}),
        ("POST", f"{session}/token", {"json": {}}),
        ("DELETE", session, {}),
        ("OPTIONS", session, {}),
        ("GET", "/v1/flows", {}),
        ("GET", "/health/live", {}),
        ("GET", "/health/ready", {}),
        ("GET", "/openapi.json", {}),
    ]

    async def answer(method: str, path: str, options: dict[str, Any]) -> tuple[str, int, float]:
        started = time.monotonic()
        async with client.stream(method, path, **options) as response:
            problem = "problem" in response.headers.get("content-type", "")
            if problem and response.status_code == 503:
                assert "retry-after" in response.headers
        return f"{method} {path}", response.status_code, time.monotonic() - started

    answers = await asyncio.gather(*(answer(*request) for request in requests))

    assert [late for late in answers if late[2] > LONGEST_SECONDS] == []
    statuses = {request: status for request, status, _ in answers}
    assert statuses["POST /v1/sessions"] == statuses[f"POST {session}/token"] == 503
    assert statuses["GET /v1/flows"] == statuses["GET /health/live"] == 200
    assert [answer for answer in answers if answer[1] == 500] == []
