"""The broker loses all its data during a call: the call goes on, and the log is whole afterwards."""

import asyncio
import os
import shutil
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.journeys.json_api import Json, SessionApi
from tests.journeys.spoken import IGNORED_TEXTS, say_and_hear

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.postgres_files import INSTALLED

BEFORE = "i would like to book a table for two"
DURING = ("tomorrow at seven", "yes please")
AFTER = "may i speak to the manager"
COMMAND_SECONDS = 60.0
UNDERSTOOD_SECONDS = 30.0

Follow = Callable[[str], Awaitable[list[Json]]]


async def test_broker_loses_its_data_during_a_call(
    stack: EmbeddedStack,
    api: SessionApi,
    outage: Callable[..., AbstractContextManager[None]],
    to_the_end: Follow,
    tmp_path: Path,
) -> None:
    backup = tmp_path / "backup"
    await _succeeds(stack, "backup", str(backup))
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
        await caller.say_until_understood(BEFORE)
        await caller.wait_for_quiet(timeout_seconds=10)
        await _until_saved(api, created["session_id"], BEFORE)
        with outage("nats", until_ready=False):
            shutil.rmtree(stack.settings.home / "nats" / "store")
            await say_and_hear(caller, DURING[0], timeout_seconds=UNDERSTOOD_SECONDS)
        await _until(lambda: _is_ready(stack, "nats"))  # and it has nothing
        await say_and_hear(caller, DURING[1], timeout_seconds=UNDERSTOOD_SECONDS)
        output = await _succeeds(stack, "restore", str(backup), "--only", "buckets")
        assert "Restored: buckets." in output
        assert "was created again" in await _succeeds(stack, "streams", "recreate")
        await _until(lambda: stack.status().ready)
        await caller.say_until_understood(AFTER)

    events = await to_the_end(created["session_id"])
    turns = [event["data"]["user_text"] for event in events if event["type"] == "turn.saved"]
    numbers = [event["producerseq"] for event in events if event["producer"] == "agent"]
    assert [text for text in turns if text not in IGNORED_TEXTS] == [BEFORE, *DURING, AFTER]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({event["id"] for event in events}) == len(events)
    assert events[0]["type"] == "session.requested"
    assert events[-1]["type"] == "session.closed"
    against = ("--against", str(backup / "manifest.json"))
    assert "No difference." in await _succeeds(stack, "verify", "--log", *against)
    gaps = await _succeeds(stack, "streams", "gaps")
    assert "missing" not in gaps, gaps  # of no session: services store messages that are no events
    await api.create("booking", "grace")  # with the key of before


async def _until_saved(api: SessionApi, session: str, text: str) -> None:
    """Wait until the log has a turn: what the broker alone had would be lost with it."""
    async with asyncio.timeout(COMMAND_SECONDS):
        async for event in api.follow(session):
            if event["type"] == "turn.saved" and event["data"]["user_text"] == text:
                return


async def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + COMMAND_SECONDS
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def _is_ready(stack: EmbeddedStack, name: str) -> bool:
    return next(service.ready for service in stack.status().services if service.name == name)


async def _succeeds(stack: EmbeddedStack, *arguments: str) -> str:
    """Run a command of persistence; return its output."""
    where = stack.status().addresses
    assert where.postgres_dsn
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": where.nats_url,
        "ANTIPHON_POSTGRES_DSN": where.postgres_dsn,
        "ANTIPHON_POSTGRES_BIN": str(INSTALLED / "bin"),
    }
    command = (sys.executable, "-m", "antiphon.persistence", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=STDOUT)
    out, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    assert process.returncode == 0, out.decode()
    return out.decode()
