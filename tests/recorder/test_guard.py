"""No error of ours reaches the framework; LiveKit's emitter would raise a TypeError into the call."""

from typing import Any

import pytest
from livekit.agents import Agent
from livekit.rtc import EventEmitter

from antiphon.agent_worker.testing import RecordedSession
from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.guard import Faults

WRONG = TypeError("ours")


def fail(*_: Any) -> None:
    raise WRONG


def test_a_guarded_handler_raises_nothing_and_is_counted() -> None:
    faults = Faults()
    faults.guard("broken", fail)(1, 2)
    assert faults.count == 1


def test_an_unguarded_handler_would_break_its_emitter() -> None:
    emitter: EventEmitter[str] = EventEmitter()
    emitter.on("event", fail)
    with pytest.raises(TypeError):
        emitter.emit("event", 1)


async def test_a_session_goes_on_when_the_recorder_fails(
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
    assert recorded.recording.faults.count > 0


async def test_a_room_goes_on_when_the_recorder_fails(recorded: RecordedSession) -> None:
    recorded.ctx.room.emit("participant_connected", "no participant at all")
    recorded.ctx.room.emit("track_muted")
    assert recorded.recording.faults.count == 2


async def test_an_outbox_that_fails_does_not_stop_a_session(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded.outbox, "write", fail)
    await recorded.start(Agent(instructions=""))
    await recorded.say("hello")
    monkeypatch.undo()
    await recorded.session.aclose()
    await recorded.recording.finish()
    assert [event for event in await recorded.events() if isinstance(event, TurnSaved)] == []
