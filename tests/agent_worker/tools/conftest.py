"""A conversation in text with one agent that has some tools, and what it puts on record."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from livekit.agents import AgentSession, llm
from livekit.agents.voice.run_result import RunResult
from tests.fixtures.echo_llm import EchoLLM

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.bound import bind
from antiphon.agent_worker.tools.address import Resolve, resolve
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.contracts.event import Event
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.recorder.tools import ToolCalls


@dataclass
class Talk:
    """A session whose model calls what the caller says."""

    session: AgentSession[Any]
    tools: SessionTools
    events: list[Event]

    async def say(self, words: str) -> list[Any]:
        """Say something, and return what happened."""
        result: RunResult[None] = await self.session.run(user_input=words)
        return [event.item for event in result.events]

    async def call(self, tool: str, **arguments: Any) -> llm.FunctionCallOutput:
        """Let the model call a tool, and return what it was given."""
        items = await self.say(f"{tool}({json.dumps(arguments)})")
        (output,) = [item for item in items if isinstance(item, llm.FunctionCallOutput)]
        return output

    @property
    def started(self) -> list[ToolStarted]:
        """The calls that began, on record."""
        return [event for event in self.events if isinstance(event, ToolStarted)]

    @property
    def completed(self) -> list[ToolCompleted]:
        """The calls that ended, on record."""
        return [event for event in self.events if isinstance(event, ToolCompleted)]


Open = Callable[..., AbstractAsyncContextManager[Talk]]


@asynccontextmanager
async def _open(
    tools: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, resolve: Resolve = resolve
) -> AsyncIterator[Talk]:
    agents = {"host": {"instructions": "Help.", "tools": list(tools)}}
    flow = Flow.model_validate(
        {"id": "f", "name": "F", "description": "A flow.", "tools": tools, "agents": agents}
    )
    session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
    events: list[Event] = []
    record = ToolCalls(lambda event, **_: events.append(event), lambda *_, **__: None, epoch="AJ_1")
    session.on("tool_execution_updated", record.on_update)
    session.on("function_tools_executed", record.on_executed)
    bound = bind(flow, CATALOG, metadata={"city": "Köln & Bonn"})
    async with SessionTools(bound, environment=environment or {}, resolve=resolve) as opened:
        agent = build_entry_agent(opened.bound, lambda *_: EchoLLM())
        await session.start(agent)
        try:
            yield Talk(session, opened, events)
        finally:
            await session.aclose()


@pytest.fixture
def talk() -> Open:
    """Return a function that opens a conversation with tools."""
    return _open


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return a function that returns all that was logged, from DEBUG on."""
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        return "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)

    return text
