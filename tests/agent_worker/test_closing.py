"""A call that ends while a tool runs does not wait for the tool."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from livekit.agents import CloseReason, llm
from livekit.agents._exceptions import APIConnectionError
from tests.agent_worker.told_model import Conversation, conversation, until
from tests.agent_worker.tools import functions

from antiphon.agent_worker import closing
from antiphon.agent_worker.apology import MOST_FAILURES, ApologisingSession
from antiphon.agent_worker.flow.model import DEFAULT_APOLOGY

FLOW = """
limits: {silence_seconds: 600}
tools:
  slow: {python: "tests.agent_worker.tools.functions:slow", timeout_seconds: 300}
  stuck: {python: "tests.agent_worker.tools.functions:stuck", timeout_seconds: 300}
  stubborn: {python: "tests.agent_worker.tools.functions:stubborn", timeout_seconds: 300}
agents: {host: {instructions: Talk., greeting: Hello., tools: [slow, stuck, stubborn]}}
"""
stopping: list[asyncio.Future[None]] = []
STOPPED = "was stopped: the call has ended"
GONE = llm.LLMError(timestamp=0, label="m", error=APIConnectionError("gone"), recoverable=False)


@pytest.fixture(autouse=True)
async def _released(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(closing, "DRAIN_SECONDS", 0.5)
    functions.release.clear()
    yield
    functions.release.set()


def caller_leaves(session: Any) -> None:
    session._close_soon(reason=CloseReason.PARTICIPANT_DISCONNECTED)  # as LiveKit's room does


def worker_stops(session: Any) -> None:
    stopping.append(asyncio.ensure_future(session.aclose()))


def model_ends_the_call(session: Any) -> None:
    session.shutdown(drain=True)


def model_fails(session: Any) -> None:
    for _ in range(MOST_FAILURES + 1):
        session._on_error(GONE)


async def begins(talk: Conversation, call: str) -> None:
    """Let the model call a tool, and wait until it runs."""
    running: list[Any] = []
    talk.session.on("tool_execution_updated", running.append)
    talk.session.generate_reply(user_input=call)
    await until(lambda: bool(running))


def outputs(talk: Conversation) -> list[tuple[bool, str]]:
    items = talk.session.history.items
    return [(item.is_error, item.output) for item in items if item.type == "function_call_output"]


@pytest.mark.parametrize("tool", ["slow", "stuck", "stubborn"])
@pytest.mark.parametrize("end", [caller_leaves, worker_stops, model_ends_the_call, model_fails])
async def test_the_end_of_a_call_does_not_wait_for_a_tool(end: Callable[[Any], None], tool: str) -> None:
    async with conversation(FLOW, tools=True, as_in_a_call=True) as talk:
        await begins(talk, 'slow({"seconds": 300})' if tool == "slow" else f"{tool}({{}})")
        end(talk.session)
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert outputs(talk) == [(True, f"{tool} {STOPPED}")]


async def test_a_call_that_has_ended_starts_no_tool() -> None:
    async with conversation(FLOW, tools=True, as_in_a_call=True) as talk:
        assert talk.call.bound.tools is not None
        talk.call.bound.tools.stop()
        said = await talk.say('slow({"seconds": 300})')
        assert said[1] == f"<- slow failed: slow {STOPPED}"


async def test_a_tool_that_is_quick_ends_before_the_call_that_is_drained() -> None:
    async with conversation(FLOW, tools=True, as_in_a_call=True) as talk:
        await begins(talk, 'slow({"seconds": 0.2})')
        talk.session.shutdown(drain=True)
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert outputs(talk) == [(False, "done")]


async def test_the_caller_hears_the_apology_before_a_call_that_fails_in_a_tool_is_closed() -> None:
    async with conversation(FLOW, tools=True, as_in_a_call=True) as talk:
        assert isinstance(talk.session, ApologisingSession)
        await begins(talk, 'slow({"seconds": 300})')
        model_fails(talk.session)
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert DEFAULT_APOLOGY in talk.shown
