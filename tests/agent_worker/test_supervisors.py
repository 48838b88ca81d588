"""Those who watch a session get what its flow does, and nobody else does; with a real LiveKit server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from livekit import rtc

from antiphon.chassis.bus import outgoing
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.supervision import SUPERVISE, TOPIC
from antiphon.session_api.sessions.join import JoinTokens

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]
SECONDS = 60


class Watcher:
    """A participant, the data messages that it gets, and the tracks that it hears."""

    def __init__(self, room: rtc.Room) -> None:
        self.messages: list[tuple[str | None, dict[str, Any]]] = []
        self.tracks: list[rtc.Track] = []
        room.on("data_received", self._on_data)
        room.on("track_subscribed", lambda track, *_: self.tracks.append(track))

    def _on_data(self, packet: rtc.DataPacket) -> None:
        try:
            self.messages.append((packet.topic, json.loads(packet.data)))
        except ValueError:
            self.messages.append((packet.topic, {}))

    @property
    def told(self) -> list[str]:
        return [str(message["type"]) for topic, message in self.messages if topic == TOPIC]

    async def wait_for(self, kind: str) -> None:
        async with asyncio.timeout(SECONDS):
            while kind not in self.told:  # noqa: ASYNC110 - LiveKit has callbacks only
                await asyncio.sleep(0.05)


@pytest.fixture
def join(live_sessions: "Sessions") -> Callable[..., Any]:
    """Join a session with a token that session-api would sign."""
    keys = live_sessions.livekit.keys
    tokens = JoinTokens(LiveKitKeys(keys.key, keys.secret), deployment="dpl_test")

    @asynccontextmanager
    async def join(session_id: str, identity: str, **options: Any) -> AsyncIterator[tuple[rtc.Room, Watcher]]:
        token = tokens.sign(
            session_id,
            "default",
            room=session_id,
            agent_name=None,
            identity=identity,
            ttl_seconds=600,
            **options,
        )
        room = rtc.Room()
        watcher = Watcher(room)
        await room.connect(live_sessions.livekit.url, token)
        try:
            yield room, watcher
        finally:
            await room.disconnect()

    return join


async def admit(sessions: "Sessions", session_id: str, identity: str) -> None:
    """Write down that someone may watch, as session-api does."""
    arguments = {"identity": identity, "role": "supervisor", "barge": False}
    command_id = f"{SUPERVISE}:{identity}"
    command = CommandRequested(command_id=command_id, verb=SUPERVISE, actor="key", arguments=arguments)
    envelope = seal(
        command,
        id=f"{session_id}:command:{command_id}",
        session_id=session_id,
        tenant="default",
        producer="session-api",
        producerseq=9,
        time=datetime.now(UTC),
    )
    await sessions.bus.publish(outgoing(envelope))


async def test_only_those_who_may_watch_are_told(
    live_sessions: "Sessions", start_worker: StartWorker, join: Callable[..., Any]
) -> None:
    start_worker()
    session_id = await live_sessions.request()
    hidden = {"role": "supervisor"}
    async with (
        live_sessions.caller(session_id) as caller,
        join(session_id, "supervisor:0001", **hidden) as (_, early),  # before the agent knows of them
        join(session_id, "supervisor:0003", **hidden) as (_, stranger),  # of whom nothing is on record
        join(session_id, "monitor-of-my-own", role="monitor", barge=True) as (_, visible),
        join(session_id, "guest") as (guest_room, guest),
    ):
        await admit(live_sessions, session_id, "supervisor:0001")
        heard_by_caller = Watcher(caller.room)
        await caller.wait_until_ready(timeout_seconds=SECONDS)
        await early.wait_for("agent_state_changed")
        async with join(session_id, "supervisor:0002", **hidden) as (_, late):
            await admit(live_sessions, session_id, "supervisor:0002")
            assert await caller.say_until_understood("i would like to book a table for two")
            for watcher in (early, late, visible):
                await watcher.wait_for("turn.saved")
        turn = next(m for _, m in early.messages if m.get("type") == "turn.saved")
        assert turn["data"]["user_text"] == "i would like to book a table for two"
        assert early.tracks, "a supervisor hears the agent"
        others = set(guest_room.remote_participants)
        assert not {"supervisor:0001", "supervisor:0002"} & others
        assert (guest.told, stranger.told, heard_by_caller.told) == ([], [], [])


async def test_a_caller_cannot_become_a_supervisor(
    live_sessions: "Sessions", start_worker: StartWorker, join: Callable[..., Any]
) -> None:
    start_worker()
    session_id = await live_sessions.request()
    async with (
        join(session_id, "guest", can_publish_data=True) as (room, guest),
        live_sessions.caller(session_id) as caller,
    ):
        await room.local_participant.set_metadata(json.dumps({"role": "supervisor"}))  # refused, in silence
        await room.local_participant.publish_data(json.dumps({"role": "admin"}), topic=TOPIC)
        await caller.wait_until_ready(timeout_seconds=SECONDS)
        assert await caller.say_until_understood("i would like to book a table for two")
        await live_sessions.wait_for(session_id, "turn.saved")

        [seen] = [p for p in caller.room.remote_participants.values() if p.identity == "guest"]
        assert seen.metadata == ""
        assert guest.told == []


async def test_a_supervisor_who_comes_first_is_not_taken_for_the_caller(
    live_sessions: "Sessions", start_worker: StartWorker, join: Callable[..., Any]
) -> None:
    start_worker()
    session_id = await live_sessions.request()
    async with join(session_id, "supervisor:0001", role="supervisor", barge=True):
        await live_sessions.wait_for(session_id, "agent_state_changed")
        await asyncio.sleep(3)  # longer than the agent is unsure
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=SECONDS)
        await live_sessions.wait_for(session_id, "agent.ready")
        events = [event.type for event in await live_sessions.events(session_id)]
    assert events.index("participant_disconnected") < events.index("agent.ready")
    assert "session.closed" not in events
