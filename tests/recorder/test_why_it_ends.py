"""What an agent says of its call: why it hangs up, why it hands over, and events of its own."""

import asyncio

import pytest
from livekit.agents import Agent
from tests.recorder.recorded_session import RecordedSession

from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentHandedOff, AgentTransferred
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.recorder.ending import SessionEnd, close_reason

LEFT = "participant_disconnected"


def of_type(events: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (
            SessionEnd(session_reason=LEFT, intent=(CloseReason.TRANSFERRED, FaultSide.NONE, None)),
            "transferred",
        ),
        (SessionEnd(ended_by_code=True, intent=(CloseReason.SILENCE, FaultSide.NONE, None)), "silence"),
        (
            SessionEnd(limit=CloseReason.MAX_DURATION, intent=(CloseReason.SILENCE, FaultSide.NONE, None)),
            "max_duration",
        ),
        (
            SessionEnd(room_reason="room_deleted", intent=(CloseReason.VOICEMAIL, FaultSide.NONE, None)),
            "ended_by_api",
        ),
        (SessionEnd(failure="the model", intent=(CloseReason.VOICEMAIL, FaultSide.NONE, None)), "error"),
        (SessionEnd(session_reason=LEFT), "caller_left"),
    ],
)
def test_the_intent_of_the_agent_is_the_reason(end: SessionEnd, reason: str) -> None:
    assert close_reason(end)[0] == reason


async def test_an_agent_gives_its_reasons(recorded: RecordedSession) -> None:
    await recorded.start(Agent(instructions=""))
    recorded.recording.hands_off_for("key 0")
    taken_over = asyncio.Event()
    recorded.session.on("conversation_item_added", lambda _: taken_over.set())
    recorded.session.update_agent(Agent(instructions=""))
    await asyncio.wait_for(taken_over.wait(), 60)
    recorded.recording.write(AgentTransferred(person="reception", status="done"))
    recorded.recording.ends_for(CloseReason.TRANSFERRED, "why")
    recorded.recording.ends_for(CloseReason.SILENCE)
    events = await recorded.finish()

    assert [event.reason for event in of_type(events, AgentHandedOff)] == [None, "key 0"]  # type: ignore[attr-defined]
    assert of_type(events, AgentTransferred) == [AgentTransferred(person="reception", status="done")]
    (closed,) = of_type(events, SessionClosed)
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.fault, closed.detail) == (CloseReason.TRANSFERRED, FaultSide.NONE, "why")
