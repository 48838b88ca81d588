"""The caller in a real room with a small agent."""

import asyncio
import json
from array import array
from collections.abc import AsyncIterator, Iterator
from math import pi, sin
from pathlib import Path

import pytest
from livekit import api, rtc

from antiphon.chassis.settings import http_url
from antiphon.cli.caller import AgentNeverReady, AgentSilent, Caller
from antiphon.cli.stack.livekit import Keys, LiveKitServer

RATE = 16_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, livekit_program: Path) -> Iterator[LiveKitServer]:
    server = LiveKitServer(tmp_path_factory.mktemp("livekit"), program=livekit_program, keys=Keys.generate())
    server.start()
    yield server
    server.stop()


def _token(server: LiveKitServer, identity: str, room: str, *, agent: bool = False) -> str:
    grants = api.VideoGrants(room_join=True, room=room, agent=agent, can_update_own_metadata=True)
    token = api.AccessToken(server.keys.key, server.keys.secret).with_identity(identity).with_grants(grants)
    return token.with_kind("agent" if agent else "standard").to_jwt()


class Agent:
    """A participant that publishes states, transcripts and a tone, and measures the caller's loudness."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.loudest = 0

    async def join(self, server: LiveKitServer, room: str) -> None:
        self.room.on("track_subscribed", lambda track, *_: asyncio.ensure_future(self._measure(track)))
        await self.room.connect(server.url, _token(server, "agent-1", room, agent=True))
        self._source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("voice", self._source)
        await self.room.local_participant.publish_track(track)
        await self.state("listening")

    async def state(self, state: str) -> None:
        await self.room.local_participant.set_attributes({"lk.agent.state": state})

    async def ready(self) -> None:
        body = {"type": "agent.ready", "sessionId": "ses_1", "greeting": "Good evening.", "timestamp": 1}
        await self.room.local_participant.publish_data(json.dumps(body), topic="agent-status")

    async def answer(self, words: str) -> None:
        await self.state("speaking")
        tone = array("h", (int(8000 * sin(2 * pi * 440 * n / RATE)) for n in range(RATE // 50)))
        for _ in range(25):
            await self._source.capture_frame(rtc.AudioFrame(tone.tobytes(), RATE, 1, RATE // 50))
        await self._source.wait_for_playout()
        await self._show(words, final=True)
        await self.state("listening")

    async def transcribe(self, words: str, *, final: bool) -> None:
        await self._show(words, final=final, who="caller")

    async def _show(self, words: str, *, final: bool, who: str | None = None) -> None:
        attributes = {"lk.transcription_final": "true" if final else "false"}
        writer = await self.room.local_participant.stream_text(
            topic="lk.transcription", attributes=attributes, sender_identity=who
        )
        await writer.write(words)
        await writer.aclose()

    async def _measure(self, track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=RATE):
            samples = array("h", bytes(event.frame.data))
            self.loudest = max(self.loudest, *map(abs, samples))

    async def wait_for_speech(self) -> None:
        async with asyncio.timeout(15):
            while self.loudest < 1000:  # noqa: ASYNC110 - loudness has no event
                await asyncio.sleep(0.02)

    async def wait_for_silence(self) -> None:
        async with asyncio.timeout(15):
            while self.loudest >= 1000:
                self.loudest = 0
                await asyncio.sleep(0.3)


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
async def agent(server: LiveKitServer, room: str) -> AsyncIterator[Agent]:
    agent = Agent()
    await agent.join(server, room)
    yield agent
    await agent.room.disconnect()


@pytest.fixture
async def caller(server: LiveKitServer, room: str) -> AsyncIterator[Caller]:
    async with Caller(server.url, _token(server, "caller", room)) as caller:
        yield caller


async def test_ready_message_is_received(agent: Agent, caller: Caller) -> None:
    await agent.ready()

    message = await caller.wait_until_ready(timeout_seconds=10)

    assert message.body["greeting"] == "Good evening."
    assert message.sender == "agent-1"


async def test_ready_message_of_another_participant_is_ignored(
    server: LiveKitServer, room: str, caller: Caller
) -> None:
    forger = rtc.Room()
    await forger.connect(server.url, _token(server, "forger", room))
    async with asyncio.timeout(60):
        while "forger" not in caller.room.remote_participants:  # noqa: ASYNC110 - the log has no entry for it
            await asyncio.sleep(0.01)
    body = {"type": "agent.ready", "sessionId": "ses_1", "greeting": "Trust me.", "timestamp": 1}
    await forger.local_participant.publish_data(json.dumps(body), topic="agent-status")

    assert await caller.log.wait_for(lambda: len(caller.log.data) == 1, 10)
    assert caller.log.data[0].sender == "forger"
    with pytest.raises(AgentNeverReady):
        await caller.wait_until_ready(timeout_seconds=0.2)
    await forger.disconnect()


async def test_missing_agent_raises(caller: Caller) -> None:
    with pytest.raises(AgentNeverReady, match=r"no message for 0\.2 s"):
        await caller.wait_until_ready(timeout_seconds=0.2)


async def test_conversation_has_sound_and_transcripts(agent: Agent, caller: Caller) -> None:
    async def answer() -> None:
        await agent.wait_for_speech()
        await agent.answer("For how many people?")

    answering = asyncio.create_task(answer())
    began = asyncio.get_running_loop().time()
    lines = await caller.converse("i would like to book a table")
    await answering

    assert [line.text for line in lines] == ["For how many people?"]
    assert caller.audio.loudness(since=began) > 300
    assert "speaking" in [change.state for change in caller.log.states]


async def test_unclear_line_is_repeated(agent: Agent, caller: Caller) -> None:
    async def answer() -> None:
        await agent.wait_for_speech()
        await agent.wait_for_silence()
        await agent.transcribe("(unclear)", final=True)
        await agent.answer("I did not catch that.")
        await agent.wait_for_speech()
        await agent.transcribe("hello", final=True)
        await agent.answer("Hello.")

    answering = asyncio.create_task(answer())
    lines = await caller.say_until_understood("hello")
    await answering

    assert [line.text for line in lines] == ["Hello."]
    assert [line.text for line in caller.own_lines] == ["(unclear)", "hello"]


async def test_interim_transcripts_are_ignored(agent: Agent, caller: Caller) -> None:
    await agent.transcribe("hell", final=False)
    await agent.transcribe("hello", final=True)

    assert await caller.log.wait_for(lambda: bool(caller.own_lines), 10)
    assert [line.text for line in caller.own_lines] == ["hello"]
    assert not caller.agent_lines


async def test_silent_agent_raises(agent: Agent, caller: Caller) -> None:
    with pytest.raises(AgentSilent, match="“hello”: no reply within 1 s"):
        await caller.converse("hello", timeout_seconds=1)


async def test_agent_that_leaves_ends_the_call(agent: Agent, caller: Caller) -> None:
    await agent.ready()
    await caller.wait_until_ready(timeout_seconds=10)

    await agent.room.disconnect()

    assert await caller.wait_until_gone(timeout_seconds=10)
    assert caller.log.ended == "the agent left"


async def test_closed_room_ends_the_call(server: LiveKitServer, room: str, caller: Caller) -> None:
    http = http_url(server.url)
    async with api.LiveKitAPI(http, server.keys.key, server.keys.secret) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))

    assert await caller.wait_until_gone(timeout_seconds=10)
    assert caller.log.ended == "the room closed (ROOM_DELETED)"
