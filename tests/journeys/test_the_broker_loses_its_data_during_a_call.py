"""The broker loses all its data during a call: the call goes on, creates answer 503, and the log is whole."""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.postgres_files import INSTALLED

BEFORE = "i would like to book a table for two"
DURING = "tomorrow at seven"
AFTER = "yes please"
SECONDS = 120.0


async def persistence(stack: EmbeddedStack, *arguments: str) -> str:
    """Run a command of persistence that succeeds; return its output."""
    where = stack.status().addresses
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": where.nats_url,
        "ANTIPHON_POSTGRES_DSN": where.postgres_dsn or "",
        "ANTIPHON_POSTGRES_BIN": str(INSTALLED / "bin"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.persistence", *arguments, env=environment, stdout=PIPE, stderr=STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def created_status(http: httpx.AsyncClient) -> int:
    return (await http.post("/v1/sessions", json={"flow_id": "booking", "user_id": "ada"})).status_code


async def test_the_broker_loses_its_data_during_a_call(
    stack: EmbeddedStack,
    api: SessionApi,
    http: httpx.AsyncClient,
    outage: Callable[..., AbstractContextManager[None]],
    to_the_end: Callable[[str], Awaitable[list[Json]]],
    tmp_path: Path,
) -> None:
    backup = tmp_path / "backup"
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=SECONDS)
        await caller.say_until_understood(BEFORE, timeout_seconds=SECONDS)
        await persistence(stack, "backup", str(backup))
        with outage("nats", until_ready=False):
            shutil.rmtree(stack.settings.home / "nats" / "store")
        await caller.wait_for_quiet(timeout_seconds=30)
        await caller.say_until_understood(DURING, timeout_seconds=SECONDS)
        assert await created_status(http) == 503
        assert (await api.session(created["session_id"]))["status"] == "active"

        await persistence(stack, "restore", str(backup), "--only", "buckets")
        await persistence(stack, "streams", "recreate")
        async with asyncio.timeout(SECONDS):
            while not stack.status().ready:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.2)
        await caller.say_until_understood(AFTER, timeout_seconds=SECONDS)

    events = await to_the_end(created["session_id"])
    turns = [event["data"]["user_text"] for event in events if event["type"] == "turn.saved"]
    numbers = [event["producerseq"] for event in events if event["producer"] == "agent"]
    assert [text for text in turns if text in (BEFORE, DURING, AFTER)] == [BEFORE, DURING, AFTER]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert events[-1]["type"] == "session.closed"
    assert await created_status(http) == 201
    assert "No difference." in await persistence(
        stack, "verify", "--log", "--against", str(backup / "manifest.json")
    )
    assert "No gap is known." in await persistence(stack, "streams", "gaps")
