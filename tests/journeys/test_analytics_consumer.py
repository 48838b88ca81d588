"""The example of a consumer on the bus counts the calls and turns of a real call on the stack."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack

PROGRAM = Path(__file__).parents[2] / "examples" / "analytics_consumer" / "analytics_consumer.py"
DEADLINE_SECONDS = 60
COUNTED = """
select flow_id, count(turns.event_id), min(latency) > 0, max(reason)
from calls join turns using (session_id) join endings using (session_id) where session_id = ?
"""


async def test_the_example_counts_a_real_call(
    stack: EmbeddedStack,
    api: SessionApi,
    to_the_end: Callable[[str], Awaitable[list[Json]]],
    tmp_path: Path,
) -> None:
    store = tmp_path / "analytics.sqlite"
    program = _start(stack, store)
    try:
        created = await api.create("booking", "ada")
        async with Caller(created["livekit_url"], created["token"]) as caller:
            await caller.wait_until_ready(timeout_seconds=40)
            await caller.say_until_understood("i would like to book a table for two")
        events = await to_the_end(created["session_id"])
        saved = [event for event in events if event["type"] == "turn.saved"]
        assert saved

        async with asyncio.timeout(DEADLINE_SECONDS):
            while not store.exists() or (row := _counted(store, created["session_id"]))[1] < len(saved):
                assert program.poll() is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.1)
        assert row == ("booking", len(saved), 1, "caller_left")
        program.terminate()
        assert program.wait(timeout=DEADLINE_SECONDS) == 0
    finally:
        program.kill()
        program.wait()


def _start(stack: EmbeddedStack, store: Path) -> subprocess.Popen[bytes]:
    settings = {"ANTIPHON_NATS_URL": stack.status().addresses.nats_url, "ANALYTICS_FILE": str(store)}
    environment = {**os.environ, **settings, "ANALYTICS_NAME": "journey"}
    with (store.parent / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, str(PROGRAM)], env=environment, stderr=log)


def _counted(store: Path, session_id: str) -> tuple[str, int, int, str]:
    with sqlite3.connect(store, timeout=30) as connection:
        row: tuple[str, int, int, str] = connection.execute(COUNTED, (session_id,)).fetchone()
    return row
