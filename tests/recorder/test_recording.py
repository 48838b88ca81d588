"""The record of a real session, event by event."""

import asyncio
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar

import livekit.agents
import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool
from livekit.agents.llm import ToolError
from tests.fixtures.echo_llm import EchoLLM
from tests.recorder.recorded_session import RecordedSession

from antiphon.contracts.events.agent import (
    AgentError,
    AgentHandedOff,
    AgentJoined,
    AgentLeft,
    AgentReady,
    AgentStateChanged,
)
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
)
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.livekit_internals import JOB_TASK

T = TypeVar("T")


class Manager(Agent):
    def __init__(self) -> None:
        super().__init__(id="manager", instructions="")

    async def on_enter(self) -> None:
        await self.session.say("I am the manager.")


class Silent(Agent):
    def __init__(self) -> None:
        super().__init__(id="silent", instructions="")


class Host(Agent):
    def __init__(self) -> None:
        super().__init__(id="host", instructions="")

    @function_tool
    async def book(self, context: RunContext[Any], people: int) -> str:
        """Book a table."""
        return f"table for {people}"

    @function_tool
    async def refuse(self, context: RunContext[Any]) -> str:
        """Refuse."""
        raise ToolError("we are full")

    @function_tool
    async def manager(self, context: RunContext[Any]) -> Agent:
        """Hand over."""
        return Manager()

    @function_tool
    async def silent(self, context: RunContext[Any]) -> Agent:
        """Hand over to a silent agent."""
        return Silent()


def of_type(kind: type[T], events: Iterable[object]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


async def test_session_is_recorded_from_joined_to_closed(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.say("Hello.")
    await recorded.say("good morning")
    events = await recorded.finish()

    joined, ready, closed = events[0], of_type(AgentReady, events)[0], events[-1]
    assert isinstance(joined, AgentJoined)
    assert (joined.job_id, joined.epoch) == ("AJ_1", "AJ_1")
    assert ready.greeting == "Hello."
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.fault, closed.turns) == (CloseReason.AGENT_ENDED, FaultSide.NONE, 1)
    (turn,) = of_type(TurnSaved, events)
    assert (turn.turn, turn.agent_id) == (1, "host")
    assert (turn.user_text, turn.assistant_text) == ("good morning", "You said: good morning")
    states = [(state.old_state, state.new_state) for state in of_type(AgentStateChanged, events)]
    assert states[0] == ("initializing", "listening")
    assert all(old == before for (_, before), (old, _) in pairwise(states))


async def test_turn_is_published_when_it_ends(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.say("one")
    assert [turn.user_text for turn in of_type(TurnSaved, await recorded.events())] == ["one"]


async def test_tool_call_is_recorded_with_arguments_and_output(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.say('book({"people": 2})')
    events = await recorded.finish()
    (started,), (completed,) = of_type(ToolStarted, events), of_type(ToolCompleted, events)
    (turn,) = of_type(TurnSaved, events)
    assert (started.name, started.arguments) == ("book", '{"people": 2}')
    assert (completed.name, completed.status, completed.output) == ("book", "done", "table for 2")
    assert completed.duration_seconds is not None
    assert started.call_id == completed.call_id
    assert turn.tool_call_ids == [started.call_id]
    assert turn.assistant_text == "Done: table for 2"


@pytest.mark.parametrize("call", ["refuse()", "unheard_of()", "book(no json)"])
async def test_failed_tool_call_is_recorded_once(recorded: RecordedSession, call: str) -> None:
    await recorded.start(Host())
    await recorded.say(call)
    events = await recorded.finish()
    (started,), (completed,) = of_type(ToolStarted, events), of_type(ToolCompleted, events)
    assert completed.status == "error"
    assert completed.output
    assert of_type(TurnSaved, events)[0].tool_call_ids == [started.call_id]


async def test_handoff_is_one_turn_and_names_both_agents(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.say("manager()")
    await recorded.say("hello")
    events = await recorded.finish()
    first, second = of_type(AgentHandedOff, events)
    assert (first.from_agent, first.to_agent) == (None, "host")
    assert (second.from_agent, second.to_agent, second.reason) == ("host", "manager", "manager")
    handoff, after = of_type(TurnSaved, events)
    assert (handoff.agent_id, handoff.assistant_text) == ("manager", "I am the manager.")
    assert handoff.assistant_text_generated == "I am the manager."
    assert (after.agent_id, after.user_text) == ("manager", "hello")


async def test_handoff_to_silent_agent_ends_the_turn(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.say("silent()")
    (turn,) = of_type(TurnSaved, await recorded.events())
    assert (turn.user_text, turn.assistant_text, turn.agent_id) == ("silent()", None, "host")


async def test_unprompted_speech_is_a_turn(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.say("Hello.")
    await recorded.session.say("Are you still there?")
    events = await recorded.finish()
    (turn,) = of_type(TurnSaved, events)
    assert (turn.user_text, turn.assistant_text) == (None, "Are you still there?")


async def test_open_turn_is_saved_before_session_closed(
    recorded: RecordedSession,
) -> None:
    class Slow(Host):
        def __init__(self) -> None:
            super().__init__()
            self.began = asyncio.Event()

        @function_tool
        async def wait(self, context: RunContext[Any]) -> str:
            """Run for a while."""
            self.began.set()
            await asyncio.sleep(0.3)  # LiveKit lets a running tool end
            return ""

    agent = Slow()
    await recorded.start(agent)
    recorded.session.generate_reply(user_input="wait()")
    await agent.began.wait()
    events = await recorded.finish()
    (turn,) = of_type(TurnSaved, events)
    assert turn.user_text == "wait()"
    assert turn.interrupted
    assert events.index(turn) < events.index(of_type(SessionClosed, events)[0])


async def test_model_error_is_recorded_and_the_turn_saved(
    recorded: RecordedSession,
) -> None:
    await recorded.start(Host())
    handle = recorded.session.generate_reply(user_input="fail")
    await handle
    events = await recorded.finish()
    error = of_type(AgentError, events)[-1]
    assert (error.recoverable, error.message) == (False, "the model failed")
    (turn,) = of_type(TurnSaved, events)
    assert (turn.user_text, turn.assistant_text) == ("fail", None)


async def test_silent_answer_is_recorded_as_error(recorded: RecordedSession) -> None:
    class Mute(Host):
        async def transcription_node(self, text: Any, model_settings: Any) -> Any:
            async for piece in text:
                yield piece[:0]

    await recorded.start(Mute())
    await recorded.say("hello")
    events = await recorded.finish()
    (turn,) = of_type(TurnSaved, events)
    assert (turn.assistant_text, turn.assistant_text_generated) == (None, "You said: hello")
    (error,) = of_type(AgentError, events)
    assert (error.kind, error.message) == ("Unheard", "the answer to turn 1 was not audible")


async def test_overrides_of_transcription_node_keep_working(recorded: RecordedSession) -> None:
    class Loud(Host):
        async def transcription_node(self, text: Any, model_settings: Any) -> Any:
            async for piece in text:
                yield piece.upper()

    await recorded.start(Loud())
    await recorded.say("hello")
    events = await recorded.finish()
    (turn,) = of_type(TurnSaved, events)
    assert turn.assistant_text == "YOU SAID: HELLO"
    assert turn.assistant_text_generated == "You said: hello"


async def test_nothing_is_recorded_after_session_closed(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.aclose()
    recorded.ctx.room.emit("room_metadata_changed", "", "late")
    assert isinstance((await recorded.finish())[-1], SessionClosed)


async def test_session_that_never_started_is_closed(recorded: RecordedSession) -> None:
    recorded.recording.failed(LookupError("flow booking has no revision 9"))
    events = await recorded.finish()
    error, closed = events[-2:]
    assert isinstance(error, AgentError)
    assert error.message == "flow booking has no revision 9"
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.detail) == (CloseReason.ERROR, "flow booking has no revision 9")


async def test_session_that_could_not_start_fails_with_the_reason(recorded: RecordedSession) -> None:
    recorded.recording.failed(LookupError("booking@9: no"), FailureReason.FLOW_NOT_LOADED)
    error, failed = (await recorded.finish())[-2:]
    assert isinstance(error, AgentError)
    assert isinstance(failed, SessionFailed)
    assert (failed.reason, failed.detail) == (FailureReason.FLOW_NOT_LOADED, "booking@9: no")


async def test_replaced_job_does_not_close_the_session(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    recorded.ctx.room.emit("disconnected", 2)  # DUPLICATE_IDENTITY
    events = await recorded.finish()
    assert recorded.recording.session_continues
    assert of_type(SessionClosed, events) == []
    left = events[-1]
    assert isinstance(left, AgentLeft)
    assert (left.reason, left.epoch) == ("replaced", "AJ_1")


async def test_failing_listener_of_the_user_does_not_affect_the_record(
    recorded: RecordedSession,
) -> None:
    def listener(_: Any) -> None:
        raise ValueError("raised by the user's listener")

    recorded.session.on("conversation_item_added", listener)
    await recorded.start(Host())
    await recorded.say("hello")
    assert len(of_type(TurnSaved, await recorded.finish())) == 1


async def test_worker_shutdown_is_not_agent_ended(
    recorded: RecordedSession,
) -> None:
    await recorded.start(Host())
    await asyncio.create_task(_close_as_livekit_does(recorded), name=JOB_TASK)
    closed = (await recorded.finish())[-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.reason, closed.fault) == (CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM)


async def test_a_second_session_that_the_job_closes_is_not_closed_by_code(
    recorded: RecordedSession,
) -> None:
    second: AgentSession[Any] = AgentSession(
        vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"}
    )
    recorded.recording.attach(second)
    await recorded.start(Host())
    await second.start(Host(), record=False)
    await second._aclose_impl(reason=livekit.agents.CloseReason.JOB_SHUTDOWN)
    assert of_type(SessionClosed, await recorded.events()) == []  # the first session is open
    await asyncio.create_task(_close_as_livekit_does(recorded), name=JOB_TASK)
    (closed,) = of_type(SessionClosed, await recorded.finish())
    assert (closed.reason, closed.fault) == (CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM)


async def _close_as_livekit_does(recorded: RecordedSession) -> None:
    await asyncio.wait_for(recorded.session.aclose(), timeout=10)


async def test_session_shutdown_by_code_is_agent_ended(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    closed_event = asyncio.Event()
    recorded.session.on("close", lambda _: closed_event.set())
    recorded.session.shutdown(drain=True)
    await closed_event.wait()
    closed = (await recorded.finish())[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.reason == CloseReason.AGENT_ENDED
