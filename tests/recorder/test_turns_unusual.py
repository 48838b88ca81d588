"""What agents rarely do is on record too, and an error of the agent's code costs no turn."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit.agents import (
    Agent,
    AgentFalseInterruptionEvent,
    RunContext,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
    function_tool,
)
from livekit.agents.inference import OverlappingSpeechEvent
from livekit.agents.llm import ChatMessage, FunctionCall
from tests.fixtures.silent_voice import SilentTTS
from tests.recorder.recorded_session import RecordedSession, recorded_session
from tests.recorder.test_recording import of_type
from tests.recorder.test_turns_overlap import give_voice, texts

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentError, AgentHandedOff
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import (
    AgentFalseInterruption,
    OverlappingSpeech,
    TurnSaved,
    TurnStarted,
    UserInputTranscribed,
)

LONE = "\ud83d"


@pytest.fixture
async def spoken(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RecordedSession]:
    """A session that speaks, and gets text."""
    async with recorded_session(bus, nats_server.url, tmp_path, tts=SilentTTS()) as recorded:
        give_voice(recorded)
        yield recorded


class Host(Agent):
    def __init__(self) -> None:
        super().__init__(id="host", instructions="")

    @function_tool
    async def look_up(self, context: RunContext[Any], what: str) -> str:
        """Look something up."""
        return f"found {what}{LONE}"

    @function_tool
    async def broken(self, context: RunContext[Any]) -> Agent:
        """Hand over to an agent that fails."""
        return Broken()

    @function_tool
    async def leave(self, context: RunContext[Any]) -> Agent:
        """Hand over, and fail at it."""
        return Silent()

    async def on_exit(self) -> None:
        raise RuntimeError("no way out")


class Silent(Agent):
    def __init__(self) -> None:
        super().__init__(id="silent", instructions="")


class Broken(Agent):
    def __init__(self) -> None:
        super().__init__(id="broken", instructions="")

    async def on_enter(self) -> None:
        raise RuntimeError("no way in")


async def test_false_interruption_and_overlapping_speech_are_recorded(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    recorded.session.emit("agent_false_interruption", AgentFalseInterruptionEvent(resumed=True))
    overlapping = OverlappingSpeechEvent(
        is_interruption=True,
        detection_delay=0.25,
        overlap_started_at=1_700_000_000.0,
        speech_input=np.zeros(3, dtype=np.int16),
        probabilities=np.zeros(3, dtype=np.float32),
    )
    recorded.session.emit("overlapping_speech", overlapping)
    events = await recorded.finish()

    assert of_type(AgentFalseInterruption, events) == [AgentFalseInterruption(resumed=True)]
    (overlap,) = of_type(OverlappingSpeech, events)
    assert (overlap.is_interruption, overlap.agent_ended, overlap.detection_delay) == (True, False, 0.25)
    assert overlap.overlap_started_at is not None
    assert overlap.overlap_started_at.timestamp() == 1_700_000_000.0
    assert recorded.recording.guard.errors == 0


async def test_proactive_reply_that_calls_a_tool_first_is_a_turn(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.say("Hello.")
    history = recorded.session.current_agent.chat_ctx.copy()
    history.add_message(role="user", content='look_up({"what": "news"})')
    await recorded.session.generate_reply(chat_ctx=history)
    events = await recorded.finish()

    (turn,) = of_type(TurnSaved, events)
    (call,) = of_type(ToolStarted, events)
    assert (turn.user_text, turn.tool_call_ids) == (None, [call.call_id])
    assert turn.assistant_text == "Done: found news\N{REPLACEMENT CHARACTER}"
    assert events.index(of_type(TurnStarted, events)[0]) < events.index(call)


async def test_words_that_are_not_added_to_the_history_are_recorded(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.say("Hello.", add_to_chat_ctx=False)
    await recorded.session.say("One moment, please.", add_to_chat_ctx=False)
    events = await recorded.finish()

    assert texts(events) == [(1, None, "One moment, please.", "One moment, please.")]
    assert of_type(AgentError, events) == []


async def test_spoken_words_that_are_not_added_to_the_history_are_recorded_as_heard(
    spoken: RecordedSession,
) -> None:
    await spoken.start(Host())
    await spoken.session.say("Hello.")
    await spoken.session.say("One moment.", add_to_chat_ctx=False)
    handle = spoken.session.say("one two three four five six seven eight", add_to_chat_ctx=False)
    await asyncio.sleep(1.2)
    handle.interrupt()
    await handle
    events = await spoken.finish()

    first, second = of_type(TurnSaved, events)
    assert (first.assistant_text, first.interrupted) == ("One moment.", False)
    assert second.interrupted
    assert second.assistant_text
    assert "one two three four five six seven eight".startswith(second.assistant_text.strip())
    assert "eight" not in second.assistant_text


async def test_lone_surrogates_are_replaced_in_every_text(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.say(f"hi {LONE}")
    call = FunctionCall(call_id="call_1", name=f"n{LONE}", arguments=f"a{LONE}")
    started = ToolExecutionUpdatedEvent(update=ToolCallStarted(function_call=call))
    recorded.session.emit("tool_execution_updated", started)
    ended = ToolCallEnded(id="call_1", call_id="call_1", message=f"o{LONE}", status="done")
    recorded.session.emit("tool_execution_updated", ToolExecutionUpdatedEvent(update=ended))
    transcribed = UserInputTranscribedEvent(transcript=f"t{LONE}", is_final=True)
    recorded.session.emit("user_input_transcribed", transcribed)
    message = ChatMessage(role="user", content=[f"late {LONE}"])
    recorded.session._conversation_item_added(message)
    events = await recorded.finish()

    mark = "\N{REPLACEMENT CHARACTER}"
    first, second = of_type(TurnSaved, events)
    assert (first.user_text, first.assistant_text) == (f"hi {mark}", f"You said: hi {mark}")
    assert second.user_text == f"late {mark}"
    (tool,), (output,) = of_type(ToolStarted, events), of_type(ToolCompleted, events)
    assert (tool.name, tool.arguments, output.output) == (f"n{mark}", f"a{mark}", f"o{mark}")
    assert [event.transcript for event in of_type(UserInputTranscribed, events)] == [f"t{mark}"]
    assert recorded.recording.guard.errors == 0


async def test_handoff_whose_on_enter_raises_ends_the_turn_and_the_next_one_works(
    recorded: RecordedSession,
) -> None:
    await recorded.start(Host())
    await recorded.say("broken()")
    await recorded.say("hello")
    events = await recorded.finish()

    assert [turn[:3] for turn in texts(events)] == [
        (1, "broken()", None),
        (2, "hello", "You said: hello"),
    ]
    (error,) = of_type(AgentError, events)
    assert (error.source, error.kind, error.message) == ("broken.on_enter", "RuntimeError", "no way in")
    assert error.recoverable
    first, second = sorted(of_type(TurnSaved, events), key=lambda turn: turn.turn)
    started = of_type(TurnStarted, events)[1]
    assert events.index(first) < events.index(started) < events.index(second)


async def test_handoff_whose_on_exit_raises_ends_the_turn_and_the_next_one_works(
    recorded: RecordedSession,
) -> None:
    await recorded.start(Host())
    await recorded.say("leave()")
    await recorded.say("hello")
    events = await recorded.finish()

    assert of_type(AgentHandedOff, events)[-1].to_agent == "silent"
    assert [turn[:3] for turn in texts(events)] == [(1, "leave()", None), (2, "hello", "You said: hello")]


async def test_first_on_enter_that_raises_is_recorded(recorded: RecordedSession) -> None:
    await recorded.start(Broken())
    await recorded.say("hello")
    events = await recorded.finish()

    assert [error.message for error in of_type(AgentError, events)] == ["no way in"]
    assert [turn[:2] for turn in texts(events)] == [(1, "hello")]
