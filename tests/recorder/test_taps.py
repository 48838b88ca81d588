"""No error of the recorder reaches the framework; LiveKit's emitter raises a TypeError into the call."""

from typing import Any

import pytest
from livekit.agents import Agent
from livekit.rtc import EventEmitter
from tests.recorder.recorded_session import RecordedSession

from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.taps import ErrorGuard

WRONG = TypeError("raised by the recorder")


def fail(*_: Any) -> None:
    raise WRONG


def test_guarded_handler_raises_nothing_and_is_counted() -> None:
    guard = ErrorGuard()
    guard.wrap("broken", fail)(1, 2)
    assert guard.errors == 1


def test_unguarded_handler_breaks_its_emitter() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    emitter.on("event", fail)
    with pytest.raises(TypeError):
        emitter.emit("event", 1)


async def test_session_continues_when_handlers_fail(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "on_item_added", fail)
    monkeypatch.setattr(
        "antiphon.recorder.conversation._HANDLERS",
        {"conversation_item_added": fail, "agent_state_changed": fail, "speech_created": fail},
    )
    await recorded.start(Agent(instructions=""))
    result: Any = await recorded.session.run(user_input="hello")
    assert "hello" in str(result.events[-1].item)
    assert recorded.recording.guard.errors > 0


async def test_room_continues_when_handlers_fail(recorded: RecordedSession) -> None:
    recorded.ctx.room.emit("participant_connected", "not a participant")
    recorded.ctx.room.emit("track_muted")
    assert recorded.recording.guard.errors == 2


async def test_session_continues_when_the_outbox_fails(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded.writer, "write", fail)
    await recorded.start(Agent(instructions=""))
    await recorded.say("hello")
    monkeypatch.undo()
    await recorded.session.aclose()
    await recorded.recording.finish()
    assert [event for event in await recorded.events() if isinstance(event, TurnSaved)] == []
