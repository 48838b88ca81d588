"""The agent of the how-to page is recorded in a room that LiveKit made, and found by the room's name."""

import asyncio
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from livekit import api as livekit_api
from tests.fixtures.process_tree import kill_tree
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "record-your-own-agent.md"
ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
READY_SECONDS = 60
NAME = "my-agent"
CHAT = "lk.chat"

MANUAL = '{"turn_detection": "manual"}'
TEXT_ONLY = "RoomOptions(audio_input=False, audio_output=False)"
# the page's agent uses models of LiveKit's cloud, and refuses calls on a busy machine
OFFLINE = {
    r"AgentSession\(.*\)": f"AgentSession(vad=None, llm=EchoLLM(), turn_handling={MANUAL})",
    r"room=ctx\.room\)": f"room=ctx.room, room_options={TEXT_ONLY})",
    r"AgentServer\(\)": "AgentServer(host='127.0.0.1', port=0, num_idle_processes=1, load_fnc=lambda: 0.0)",
}
IMPORTS = """
from livekit.agents.voice.room_io import RoomOptions
from tests.fixtures.echo_llm import EchoLLM
"""


def agent_of_the_page() -> str:
    program: str = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]
    for pattern, instead in OFFLINE.items():
        (found,) = re.findall(pattern, program)
        program = program.replace(found, instead)
    return IMPORTS + program


@pytest.fixture
async def agent(stack: EmbeddedStack, tmp_path: Path) -> AsyncIterator[None]:
    """The agent of the page, registered with LiveKit."""
    where = stack.status().addresses
    (tmp_path / "agent.py").write_text(agent_of_the_page())
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LIVEKIT_URL": where.livekit_url,
        "LIVEKIT_API_KEY": str(where.livekit_api_key),
        "LIVEKIT_API_SECRET": str(where.livekit_api_secret),
        "ANTIPHON_NATS_URL": where.nats_url,
        "ANTIPHON_JOURNAL_DIR": str(tmp_path / "journals"),
    }
    output = tmp_path / "agent.log"
    with output.open("wb") as log:
        command = (sys.executable, "-m", "livekit.agents", "start", "agent.py")
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(READY_SECONDS):
            while "registered worker" not in output.read_text():
                assert process.returncode is None, output.read_text()
                await asyncio.sleep(0.1)
        yield
    finally:
        await asyncio.to_thread(kill_tree, process.pid)
        await process.wait()


@asynccontextmanager
async def visitor(stack: EmbeddedStack, room: str) -> AsyncIterator[Caller]:
    """A participant in a room that LiveKit creates when they join; the agent is dispatched to it."""
    where = stack.status().addresses
    key, secret = str(where.livekit_api_key), str(where.livekit_api_secret)
    grants = livekit_api.VideoGrants(room_join=True, room=room)
    token = livekit_api.AccessToken(key, secret).with_identity("visitor").with_grants(grants).to_jwt()
    async with (
        livekit_api.LiveKitAPI(where.livekit_url, key, secret) as livekit,
        Caller(where.livekit_url, token) as caller,
    ):
        dispatch = livekit_api.CreateAgentDispatchRequest(agent_name=NAME, room=room)
        await livekit.agent_dispatch.create_dispatch(dispatch)
        yield caller


async def say_hello(caller: Caller) -> None:
    await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
    lines = len(caller.agent_lines)
    await caller.room.local_participant.send_text("hello", topic=CHAT)
    assert await caller.log.wait_for(lambda: len(caller.agent_lines) > lines, READY_SECONDS)


async def session_of(http: httpx.AsyncClient, room: str) -> Json:
    """Return the one session of a room, as soon as it is in the view."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            found = (await http.get("/v1/sessions", params={"room": room})).json()["sessions"]
            if found:
                [session] = found
                return dict(session)
            await asyncio.sleep(0.2)


async def complete_log(api: SessionApi, session: str) -> list[Json]:
    """Return a session's events, with the webhook of its room's end."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            events = [event async for event in api.events(session)]
            if {"session.closed", "livekit.room_finished"} <= {event["type"] for event in events}:
                return events
            await asyncio.sleep(0.2)


async def test_agent_of_the_how_to_is_found_by_its_room(
    stack: EmbeddedStack, api: SessionApi, http: httpx.AsyncClient, agent: None
) -> None:
    room = f"lobby-{secrets.token_hex(4)}"
    async with visitor(stack, room) as caller:
        await say_hello(caller)

    session = await session_of(http, room)
    assert (session["room"], session["agent_name"], session["flow_id"]) == (room, NAME, None)

    events = await complete_log(api, session["session_id"])
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["session.adopted", "agent.joined"]
    assert events[0]["data"]["room"] == room
    assert kinds.count("session.adopted") == kinds.count("session.closed") == 1
    # webhooks of the time before the agent came, too
    assert {"livekit.room_started", "livekit.participant_joined", "livekit.room_finished"} <= set(kinds)
    assert "hello" in [turn["user_text"] async for turn in api.turns(session["session_id"])]

    environment = os.environ | stack.settings.environment()
    for arguments in (("show", session["session_id"]), ("sessions", "--room", room)):
        shown = await asyncio.to_thread(
            subprocess.run,
            [ANTIPHON, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert session["session_id"] in shown.stdout
        assert ("hello" in shown.stdout) == (arguments[0] == "show")


async def sessions_of(http: httpx.AsyncClient, room: str, statuses: list[str]) -> list[Json]:
    """Return the sessions of a room, oldest first, as soon as they have these statuses."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            found: list[Json] = (await http.get("/v1/sessions", params={"room": room})).json()["sessions"]
            if [session["status"] for session in reversed(found)] == statuses:
                return found[::-1]
            await asyncio.sleep(0.2)


async def test_two_calls_in_one_room_are_two_sessions(
    stack: EmbeddedStack, api: SessionApi, http: httpx.AsyncClient, agent: None
) -> None:
    where, room = stack.status().addresses, f"lobby-{secrets.token_hex(4)}"
    async with livekit_api.LiveKitAPI(
        where.livekit_url, where.livekit_api_key, where.livekit_api_secret
    ) as livekit:
        kept = livekit_api.CreateRoomRequest(name=room, empty_timeout=600, departure_timeout=600)
        sid = (await livekit.room.create_room(kept)).sid
        async with visitor(stack, room) as caller:
            await say_hello(caller)
        [first] = await sessions_of(http, room, ["closed"])
        async with visitor(stack, room) as caller:
            await say_hello(caller)
            _, live = await sessions_of(http, room, ["closed", "active"])
            joined = await http.post(f"/v1/sessions/{live['session_id']}/token", json={"identity": "eve"})
            assert (joined.status_code, joined.json()["room"]) == (200, room)
        again, second = await sessions_of(http, room, ["closed", "closed"])
        await livekit.room.delete_room(livekit_api.DeleteRoomRequest(room=room))

    assert again["session_id"] == first["session_id"] != second["session_id"]
    assert again["turns"] == first["turns"] > 0 < second["turns"]
    for session in (first, second):
        events = [event async for event in api.events(session["session_id"])]
        kinds = [event["type"] for event in events]
        assert (kinds[0], events[0]["data"]["room_sid"]) == ("session.adopted", sid)
        assert kinds.count("session.adopted") == kinds.count("session.closed") == 1
        assert kinds.count("agent.joined") == 1
    await complete_log(api, second["session_id"])  # with the webhook of the room's end


async def test_agent_of_ones_own_is_dispatched_by_the_api(
    api: SessionApi,
    http: httpx.AsyncClient,
    agent: None,
    to_the_end: Callable[[str], Awaitable[list[Json]]],
) -> None:
    body = {"agent_name": NAME, "user_id": "ada", "can_publish_data": True}  # it gets text
    created = (await http.post("/v1/sessions", json=body)).json()
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await say_hello(caller)

    events = await to_the_end(created["session_id"])
    kinds = [event["type"] for event in events]
    assert kinds[0] == "session.requested"
    assert "session.adopted" not in kinds
    assert {"agent.joined", "agent.ready", "livekit.participant_joined", "turn.saved"} <= set(kinds)
    state = await api.session(created["session_id"])
    assert (state["flow_id"], state["flow_revision"], state["agent_name"]) == (None, None, NAME)
