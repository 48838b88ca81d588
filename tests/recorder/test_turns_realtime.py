"""Turns of a real session with a speech-to-speech model, whose server is a double."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, RunContext, function_tool
from livekit.agents.llm import FunctionCall, InputSpeechStartedEvent, InputSpeechStoppedEvent
from tests.fixtures.realtime_double import RealtimeDouble
from tests.fixtures.scripted_stt import ScriptedSTT
from tests.recorder.recorded_session import RecordedSession, recorded_session
from tests.recorder.test_recording import of_type
from tests.recorder.test_turns_overlap import texts, until_turns

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError, AgentReady
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder import turn_notes, turn_recorder


class Host(Agent):
    def __init__(self) -> None:
        super().__init__(id="host", instructions="")

    @function_tool
    async def book(self, context: RunContext[Any]) -> str:
        """Book a table."""
        return "booked"


@asynccontextmanager
async def served(
    bus: Bus, nats_server: NatsServer, folder: Path, model: RealtimeDouble, **options: Any
) -> AsyncIterator[RecordedSession]:
    options = {"llm": model, "turn_handling": {"turn_detection": "realtime_llm"}, **options}
    async with recorded_session(bus, nats_server.url, folder, **options) as recorded:
        await recorded.start(Host())
        yield recorded


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_an_exchange_is_one_turn_whenever_its_transcript_comes(
    when: str, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        for number in (1, 2, 3):
            server.user_speaks()
            if when == "before":
                server.transcribe(f"question {number}", f"item_{number}")
            reply = server.respond()
            reply.say(f"answer {number}")
            await settle()
            if when == "during":
                server.transcribe(f"question {number}", f"item_{number}")
            reply.end()
            await settle()
            if when == "after":
                server.transcribe(f"question {number}", f"item_{number}")
                await settle()
        events = await recorded.finish()

    assert texts(events) == [
        (number, f"question {number}", f"answer {number}", f"answer {number}") for number in (1, 2, 3)
    ]
    starts = of_type(TurnStarted, events)
    assert [(turn.turn, turn.input) for turn in starts] == [(1, "voice"), (2, "voice"), (3, "voice")]
    known = when == "before"
    assert [turn.user_text is not None for turn in starts] == [known, known, known]
    assert len(of_type(AgentReady, events)) == 1


async def test_transcript_of_an_interrupted_exchange_stays_in_its_turn(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        server.user_speaks()
        server.respond().say("answer one")
        await settle()
        server.user_speaks()  # interrupts
        await settle()
        second = server.respond()
        second.say("answer two")
        await settle()
        server.transcribe("question one", "item_1")
        server.transcribe("question two", "item_2")
        second.end()
        await settle()
        events = await recorded.finish()

    turns = [(turn.turn, turn.user_text, turn.assistant_text) for turn in of_type(TurnSaved, events)]
    assert turns == [(1, "question one", "answer one"), (2, "question two", "answer two")]
    assert [turn.interrupted for turn in of_type(TurnSaved, events)] == [True, False]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_failed_transcript_does_not_shift_the_later_ones(
    when: str, bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_recorder, "LATE_SECONDS", 0.3)
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        for number, words in enumerate((None, "I want a table", "for four", None, "at eight"), start=1):
            server.user_speaks()
            if words and when == "before":
                server.transcribe(words, f"item_{number}")
            reply = server.respond()
            reply.say(f"answer {number}")
            reply.end()
            await settle()
            if words and when == "after":
                server.transcribe(words, f"item_{number}")
            await asyncio.sleep(0.6)
        events = await recorded.finish()

    turns = [(turn.turn, turn.user_text, turn.assistant_text) for turn in of_type(TurnSaved, events)]
    assert turns == [
        (1, None, "answer 1"),
        (2, "I want a table", "answer 2"),
        (3, "for four", "answer 3"),
        (4, None, "answer 4"),
        (5, "at eight", "answer 5"),
    ]


async def test_late_transcript_that_comes_while_the_user_speaks_again_is_of_the_earlier_exchange(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_recorder, "LATE_SECONDS", 0.3)
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        server.user_speaks()
        reply = server.respond()
        reply.say("answer 1")
        reply.end()
        await settle()
        await asyncio.sleep(0.6)
        server.emit("input_speech_started", InputSpeechStartedEvent())
        server.transcribe("question 1", "item_1")
        server.emit("input_speech_stopped", InputSpeechStoppedEvent(user_transcription_enabled=True))
        reply = server.respond()
        reply.say("answer 2")
        reply.end()
        await settle()
        server.transcribe("question 2", "item_2")
        events = await recorded.finish()

    turns = [(turn.user_text, turn.assistant_text) for turn in of_type(TurnSaved, events)]
    assert turns == [("question 1", "answer 1"), ("question 2", "answer 2")]


async def test_typed_text_is_not_the_transcript_of_an_earlier_exchange(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        server.user_speaks()
        reply = server.respond()
        reply.say("answer 1")
        reply.end()
        await settle()
        recorded.session.generate_reply(user_input="typed words")
        await settle()
        reply = server.respond()
        reply.say("answer 2")
        reply.end()
        await settle()
        events = await recorded.finish()

    turns = {turn.turn: (turn.user_text, turn.assistant_text) for turn in of_type(TurnSaved, events)}
    assert turns == {1: (None, "answer 1"), 2: ("typed words", "answer 2")}


async def test_exchange_without_transcript_is_saved_after_a_while(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_notes, "WAIT_SECONDS", 0.3)
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        reply = model.newest.respond()
        reply.say("answer")
        reply.end()
        assert texts(await until_turns(recorded, 1)) == [(1, None, "answer", "answer")]


async def test_model_without_transcripts_is_not_waited_for(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble(user_transcription=False)
    async with served(bus, nats_server, tmp_path, model) as recorded:
        reply = model.newest.respond()
        reply.say("answer")
        reply.end()
        await settle()
        assert texts(await recorded.events()) == [(1, None, "answer", "answer")]


@pytest.mark.parametrize("automatic", [False, True])
async def test_reply_to_a_tool_is_in_the_turn_of_its_call(
    automatic: bool, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble(auto_tool_reply_generation=automatic)
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        server.user_speaks()
        server.transcribe("book a table", "item_1")
        reply = server.respond()
        reply.functions.send_nowait(FunctionCall(call_id="call_1", name="book", arguments="{}"))
        reply.end()
        await settle()
        reply = server.respond()
        reply.say("It is booked.")
        reply.end()
        await settle()
        server.user_speaks()
        reply = server.respond()
        server.transcribe("thank you", "item_2")
        reply.say("You are welcome.")
        reply.end()
        await settle()
        events = await recorded.finish()

    first, second = of_type(TurnSaved, events)
    assert (first.user_text, first.assistant_text) == ("book a table", "It is booked.")
    assert first.tool_call_ids == ["call_1"]
    assert (second.user_text, second.assistant_text) == ("thank you", "You are welcome.")
    assert of_type(AgentError, events) == []


async def test_interrupted_tool_call_is_not_waited_for(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble(auto_tool_reply_generation=True)
    async with served(bus, nats_server, tmp_path, model) as recorded:
        server = model.newest
        server.user_speaks()
        server.transcribe("book a table", "item_1")
        reply = server.respond()
        reply.say("One moment.")
        reply.functions.send_nowait(FunctionCall(call_id="call_1", name="book", arguments="{}"))
        await settle()
        server.user_speaks()  # interrupts
        await settle()
        server.transcribe("never mind", "item_2")
        reply = server.respond()
        reply.say("As you like.")
        reply.end()
        await settle()
        events = await recorded.finish()

    turns = [(turn.user_text, turn.assistant_text) for turn in of_type(TurnSaved, events)]
    assert turns == [("book a table", "One moment."), ("never mind", "As you like.")]


async def test_words_from_a_separate_recogniser_are_the_turns_user_text(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model, stt = RealtimeDouble(user_transcription=False, turn_detection=False), ScriptedSTT()
    turn_handling = {"turn_detection": "stt", "endpointing": {"min_delay": 0.1, "max_delay": 0.2}}
    async with served(bus, nats_server, tmp_path, model, stt=stt, turn_handling=turn_handling) as recorded:
        await settle()
        for number in (1, 2):
            await stt.user_says(f"question {number}")
            async with asyncio.timeout(60):
                while len(model.newest.requested) < number:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.02)
            reply = model.newest.respond()
            reply.say(f"answer {number}")
            reply.end()
            await settle()
        events: list[Event] = await until_turns(recorded, 2)

    assert [turn[1:3] for turn in texts(events)] == [("question 1", "answer 1"), ("question 2", "answer 2")]


async def test_typed_text_to_a_speech_model_is_one_turn(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    model = RealtimeDouble()
    async with served(bus, nats_server, tmp_path, model) as recorded:
        recorded.session.generate_reply(user_input="hello")
        await settle()
        reply = model.newest.respond()
        reply.say("Hi.")
        reply.end()
        await settle()
        events = await recorded.finish()

    assert texts(events) == [(1, "hello", "Hi.", "Hi.")]
    assert [turn.input for turn in of_type(TurnStarted, events)] == ["text"]
