"""Turns that the caller's client begins and ends; the journeys show them on real audio."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, llm, stt
from tests.fixtures.echo_llm import EchoLLM
from tests.fixtures.scripted_stt import ScriptedSTT

from antiphon.agent_worker.push_to_talk import WRONG_MOMENT, PushToTalk, require_words

SECONDS = 60


@pytest.fixture
def recogniser() -> ScriptedSTT:
    return ScriptedSTT()


@pytest.fixture
async def session(recogniser: ScriptedSTT) -> AsyncIterator[AgentSession[None]]:
    session: AgentSession[None] = AgentSession(
        vad=None,
        stt=recogniser,
        llm=EchoLLM(),
        turn_handling={
            "turn_detection": "manual",
            "endpointing": {"min_delay": 0, "max_delay": 0},
            "preemptive_generation": {"enabled": False},
        },
    )
    await session.start(Agent(instructions=""))
    yield session
    await session.aclose()


async def says(recogniser: ScriptedSTT, text: str, *, streams: int) -> None:
    """Say something once the recogniser has begun again so many times: LiveKit clears a turn so."""
    async with asyncio.timeout(SECONDS):
        while len(recogniser.streams) < streams:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
    await recogniser.user_says(text)


class Said:
    """What the caller and the agent have said."""

    def __init__(self, session: AgentSession[Any]) -> None:
        self._session = session
        self._changed = asyncio.Condition()
        session.on("conversation_item_added", lambda _: asyncio.ensure_future(self._notify()))

    async def until(self, *texts: str) -> None:
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.texts[: len(texts)] == list(texts))

    @property
    def texts(self) -> list[str | None]:
        return [item.text_content for item in self._session.history.items if item.type == "message"]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def test_turn_that_the_client_forgets_is_ended(
    session: AgentSession[None], recogniser: ScriptedSTT
) -> None:
    turns, said = PushToTalk(session, longest_seconds=1.0), Said(session)
    await turns.start()
    await says(recogniser, "hello", streams=2)
    await said.until("hello")
    with pytest.raises(rtc.RpcError, match="end_turn: no turn is open; call start_turn first"):
        await turns.end()


async def test_words_after_a_final_transcript_are_taken_once(
    session: AgentSession[None], recogniser: ScriptedSTT
) -> None:
    turns, said = PushToTalk(session), Said(session)
    await turns.start()
    await says(recogniser, "one", streams=2)
    stream = recogniser.streams[-1]
    stream.send(stt.SpeechEventType.INTERIM_TRANSCRIPT, "two")
    async with asyncio.timeout(SECONDS):
        while not turns._unfinished:  # noqa: ASYNC110 - LiveKit has taken the interim transcript then
            await asyncio.sleep(0)
    ending = asyncio.create_task(turns.end())
    await asyncio.sleep(1.0)
    assert not ending.done()  # else the words are taken from both transcripts
    stream.send(stt.SpeechEventType.FINAL_TRANSCRIPT, "two")
    assert json.loads(await ending) == {"open": False, "transcript": "one two"}
    await said.until("one two", "You said: one two")


async def test_turn_that_is_cancelled_is_forgotten(
    session: AgentSession[None], recogniser: ScriptedSTT
) -> None:
    turns, said = PushToTalk(session), Said(session)
    await turns.start()
    await says(recogniser, "never mind", streams=2)
    await turns.cancel()
    await turns.start()
    await says(recogniser, "hello", streams=4)
    assert json.loads(await turns.end()) == {"open": False, "transcript": "hello"}
    await said.until("hello")
    with pytest.raises(rtc.RpcError, match="cancel_turn: no turn is open"):
        await turns.cancel()


async def test_turn_without_a_word_is_not_answered(session: AgentSession[None]) -> None:
    turns, said = PushToTalk(session), Said(session)
    await turns.start()
    assert json.loads(await turns.end()) == {"open": False, "transcript": ""}
    assert said.texts == []
    with pytest.raises(llm.StopResponse):
        require_words(session, llm.ChatMessage(role="user", content=[""]))
    require_words(session, llm.ChatMessage(role="user", content=["hello"]))


async def test_turn_cannot_begin_while_the_agent_must_not_be_interrupted(
    session: AgentSession[None],
) -> None:
    turns = PushToTalk(session)
    speech = session.generate_reply(user_input="slowly", allow_interruptions=False)
    async with asyncio.timeout(SECONDS):
        while session.current_speech is None:  # noqa: ASYNC110 - LiveKit has no event for it
            await asyncio.sleep(0)
    with pytest.raises(rtc.RpcError, match="wait until it has finished") as refused:
        await turns.start()
    assert refused.value.code == WRONG_MOMENT
    await speech
    assert json.loads(await turns.start()) == {"open": True}


async def test_requests_at_the_same_time_are_answered_in_their_order(session: AgentSession[None]) -> None:
    turns = PushToTalk(session)
    begun, ended, again = await asyncio.gather(
        turns.start(), turns.end(), turns.end(), return_exceptions=True
    )
    assert json.loads(str(begun)) == {"open": True}
    assert json.loads(str(ended)) == {"open": False, "transcript": ""}
    assert isinstance(again, rtc.RpcError)
