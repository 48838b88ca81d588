"""No error of the recorder reaches the framework; LiveKit's emitter raises a TypeError into the call."""

import inspect
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from livekit.agents import Agent, ModelSettings, RunContext, function_tool, llm
from livekit.rtc import EventEmitter
from tests.recorder.recorded_session import RecordedSession

from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder import taps
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.taps import AgentListener, ErrorGuard, tap_agent, tap_hang_up, tap_shutdown

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


class OwnLoop(Agent):
    """Uses its own model node, as LiveKit's documentation shows."""

    def __init__(self) -> None:
        super().__init__(instructions="")

    @function_tool
    async def summarise(self, context: RunContext[Any]) -> str:
        """Ask the model."""
        chat_ctx = llm.ChatContext.empty()
        chat_ctx.add_message(role="user", content="in short")
        chunks: Any = self.llm_node(chat_ctx, [], ModelSettings())
        return "".join([chunk.delta.content async for chunk in chunks])


async def test_a_recorded_agents_llm_node_is_called_as_before(recorded: RecordedSession) -> None:
    await recorded.start(OwnLoop())
    await recorded.say("summarise({})")
    (turn,) = [event for event in await recorded.finish() if isinstance(event, TurnSaved)]
    assert turn.assistant_text == "Done: You said: in short"


def listener(heard: list[str]) -> AgentListener:
    def on_text(_: str, text: str) -> None:
        heard.append(text)

    return AgentListener(on_text, on_text, on_text, lambda agent, error: None)


@pytest.mark.parametrize("kind", ["iterable", "coroutine of an iterable", "coroutine of a text", "text"])
async def test_every_listener_of_an_agent_hears_every_kind_of_llm_node(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream() -> AsyncIterator[str]:
        yield "hello"

    async def coroutine() -> Any:
        return stream() if kind == "coroutine of an iterable" else "hello"

    nodes: dict[str, Any] = {"iterable": stream, "text": lambda: "hello"}
    node = nodes.get(kind, coroutine)
    monkeypatch.setattr(taps, "current_speech", lambda: "s1")
    agent = Agent(instructions="")
    vars(agent)["llm_node"] = node
    first: list[str] = []
    second: list[str] = []
    one, other = listener(first), listener(second)
    for added in (one, other, one):
        tap_agent(agent, added)

    async def ask() -> None:
        result: Any = agent.llm_node()  # type: ignore[call-arg] # the double takes nothing
        if inspect.iscoroutine(result):
            result = await result
        if not isinstance(result, str):
            assert [text async for text in result] == ["hello"]

    await ask()
    assert (first, second) == (["hello"], ["hello"])
    del one, added  # as at the end of a recording
    await ask()
    assert (len(first), len(second)) == (1, 2)


async def test_job_is_tapped_once_for_all_its_recordings(recorded: RecordedSession) -> None:
    ctx = recorded.ctx
    calls: list[int] = []
    shutdown, kind = ctx.shutdown, type(ctx)
    ends = [tap(ctx, partial(calls.append, n)) for n in (1, 2) for tap in (tap_shutdown, tap_hang_up)]
    assert (ctx.shutdown, type(ctx)) == (shutdown, kind)
    ends[0]()
    ctx.shutdown("done")
    assert calls == [2]
