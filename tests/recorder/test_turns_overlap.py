"""Turns of a real session whose speeches overlap: each text is in the turn of its own speech."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, AgentTask, RunContext, function_tool
from livekit.agents.voice.transcription.synchronizer import TranscriptSynchronizer
from tests.fixtures.scripted_stt import ScriptedSTT
from tests.fixtures.silent_voice import SilentPlayer, SilentTTS
from tests.recorder.recorded_session import RecordedSession, recorded_session
from tests.recorder.test_recording import of_type

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.turn import TurnSaved, TurnStarted

Texts = tuple[int, str | None, str | None, str | None]


def texts(events: list[Event]) -> list[Texts]:
    turns = sorted(of_type(TurnSaved, events), key=lambda turn: turn.turn)
    return [(turn.turn, turn.user_text, turn.assistant_text, turn.assistant_text_generated) for turn in turns]


def give_voice(recorded: RecordedSession) -> None:
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=SilentPlayer(), next_in_chain_text=None)
    recorded.session.output.audio = synchronizer.audio_output
    recorded.session.output.transcription = synchronizer.text_output


@pytest.fixture
async def spoken(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RecordedSession]:
    """A session that speaks, and gets text."""
    async with recorded_session(bus, nats_server.url, tmp_path, tts=SilentTTS()) as recorded:
        give_voice(recorded)
        yield recorded


async def test_overlapping_replies_are_two_turns_with_their_own_texts(spoken: RecordedSession) -> None:
    await spoken.start(Host())
    first = spoken.session.generate_reply(user_input="one two three four")
    await asyncio.sleep(0.5)  # it speaks
    second = spoken.session.generate_reply(user_input="five")
    await first
    await second
    events = await spoken.finish()

    assert texts(events) == [
        (1, "one two three four", "You said: one two three four", "You said: one two three four"),
        (2, "five", "You said: five", "You said: five"),
    ]
    assert of_type(AgentError, events) == []
    starts = [(turn.turn, turn.user_text) for turn in of_type(TurnStarted, events)]
    assert starts == [(1, "one two three four"), (2, "five")]


async def test_interrupted_overlapping_reply_leaves_the_other_alone(spoken: RecordedSession) -> None:
    await spoken.start(Host())
    first = spoken.session.generate_reply(user_input="one two three four")
    await asyncio.sleep(0.5)
    second = spoken.session.generate_reply(user_input="five")
    await asyncio.sleep(0.05)
    second.interrupt()
    await first
    await second
    events = await spoken.finish()

    one, two = sorted(of_type(TurnSaved, events), key=lambda turn: turn.turn)
    assert (one.assistant_text, one.interrupted) == ("You said: one two three four", False)
    assert (two.user_text, two.assistant_text, two.interrupted) == ("five", None, True)


class HowMany(AgentTask[str]):
    def __init__(self) -> None:
        super().__init__(instructions="")

    async def on_enter(self) -> None:
        await self.session.say("For how many?")

    @function_tool
    async def people(self, context: RunContext[Any], number: int) -> None:
        """Say how many."""
        self.complete(f"table for {number}")


class Host(Agent):
    def __init__(self) -> None:
        super().__init__(id="host", instructions="")

    @function_tool
    async def book(self, context: RunContext[Any]) -> str:
        """Book a table."""
        return await HowMany()


async def until_turns(recorded: RecordedSession, count: int) -> list[Event]:
    async with asyncio.timeout(60):
        while len(of_type(TurnSaved, events := await recorded.events())) < count:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
    return events


async def test_agent_task_with_preemptive_generation_keeps_each_turns_answer(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    stt = ScriptedSTT()
    turn_handling = {"turn_detection": "stt", "endpointing": {"min_delay": 0.1, "max_delay": 0.2}}
    async with recorded_session(
        bus, nats_server.url, tmp_path, stt=stt, turn_handling=turn_handling
    ) as recorded:
        await recorded.start(Host())
        await stt.user_says("book()")
        async with asyncio.timeout(60):
            while recorded.session.current_agent.id != "how_many":  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await stt.user_says("good morning")
        await until_turns(recorded, 1)
        await stt.user_says('people({"number": 2})')
        events = await until_turns(recorded, 3)

    first, second, third = texts(events)
    assert first == (1, "book()", "For how many? Done: table for 2", "For how many? Done: table for 2")
    assert second == (2, "good morning", "You said: good morning", "You said: good morning")
    assert third == (3, 'people({"number": 2})', None, None)
    assert [turn.input for turn in of_type(TurnStarted, events)] == ["voice", "voice", "voice"]
    assert of_type(AgentError, events) == []
