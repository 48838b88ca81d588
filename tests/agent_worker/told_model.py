"""A model that does what the caller says, in place of a real one, and conversations with its flow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from livekit.agents import AgentSession, llm
from livekit.agents.llm import ChatContext
from livekit.agents.voice.run_result import RunResult
from tests.fixtures.echo_llm import EchoLLM

from antiphon.agent_worker.agents import entry_agent
from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.call import Call, NoTelephone, Telephone, only_llm
from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.session import CloseReason

Say = Callable[[str], Awaitable[list[str]]]

WITHOUT_KEYS = replace(CATALOG, option_problems=lambda *_: [])
FLOW = """\
id: shop
name: Shop
description: A shop.
voice: {stt: openai, llm: openai, tts: offline}
"""


class ToldLLM(EchoLLM):
    """An `EchoLLM` that keeps what it was asked: `name(arguments)` of the caller becomes a tool call."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[ChatContext] = []
        self.tools: list[set[str]] = []
        self.described: dict[str, str] = {}  # the descriptions of the newest tools

    def chat(self, *, chat_ctx: ChatContext, **options: Any) -> llm.LLMStream:
        """Answer the newest message."""
        self.contexts.append(chat_ctx.copy())
        tools = options.get("tools") or []
        self.tools.append({tool.id for tool in tools})
        self.described = {
            tool.id: str(tool.info.raw_schema.get("description"))
            for tool in tools
            if isinstance(tool, llm.RawFunctionTool)
        }
        return super().chat(chat_ctx=chat_ctx, **options)

    @property
    def instructions(self) -> str:
        """The instructions that it was last given."""
        return next(str(item.text_content) for item in _messages(self.contexts[-1], "system"))

    @property
    def heard(self) -> list[str]:
        """What it was told that the caller has said."""
        return [str(item.text_content) for item in _messages(self.contexts[-1], "user")]


def _messages(context: ChatContext, role: str) -> list[llm.ChatMessage]:
    return [item for item in context.items if item.type == "message" and item.role == role]


@dataclass
class Kept:
    """A record in memory."""

    events: list[Event] = field(default_factory=list)
    ends: list[CloseReason] = field(default_factory=list)
    hand_offs: list[str] = field(default_factory=list)
    detail: str | None = None

    def write(self, event: Event, /) -> None:
        """Keep an event."""
        self.events.append(event)

    def ends_for(self, reason: CloseReason, detail: str | None = None, /) -> None:
        """Keep the reason."""
        self.ends.append(reason)
        self.detail = detail

    def hands_off_for(self, reason: str, /) -> None:
        """Keep the reason."""
        self.hand_offs.append(reason)

    @property
    def errors(self) -> list[AgentError]:
        """The errors."""
        return [event for event in self.events if isinstance(event, AgentError)]


@dataclass
class Conversation:
    """A conversation in text with the agents of a flow."""

    session: AgentSession[Any]
    model: ToldLLM
    record: Kept
    call: Call
    shown: list[str] = field(default_factory=list)
    is_closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def shows(self, line: str) -> None:
        """Wait until the history has a line."""
        await until(lambda: line in self.shown)

    async def say(self, words: str) -> list[str]:
        """Say something; return what follows, a line for each message, tool call and hand-off."""
        result: RunResult[None] = await self.session.run(user_input=words)
        return [shown(event.item) for event in result.events]


def bound_flow(text: str, **metadata: str) -> BoundFlow:
    """Return the flow of the file's rest, which may use the model `openai`."""
    return bind(load_flow(FLOW + text, WITHOUT_KEYS), WITHOUT_KEYS, metadata=metadata)


@asynccontextmanager
async def conversation(
    text: str,
    *,
    telephone: Telephone | None = None,
    tools: bool = False,
    as_in_a_call: bool = False,
    **options: Any,
) -> AsyncIterator[Conversation]:
    """Return a conversation with the flow of the file's rest; `as_in_a_call`, in the session of a call."""
    model, record = ToldLLM(), Kept()
    bound = bound_flow(text)
    bound = SessionTools(bound).bound if tools else bound
    call = Call(bound, only_llm(lambda *_: model), record, telephone or NoTelephone())
    make = partial(ApologisingSession, bound) if as_in_a_call else AgentSession
    session: AgentSession[Any] = make(vad=None, turn_handling={"turn_detection": "manual"}, **options)
    talk = Conversation(session, model, record, call)
    session.on("conversation_item_added", lambda event: talk.shown.append(shown(event.item)))
    session.on("close", lambda _: talk.is_closed.set())
    await session.start(entry_agent(call))
    try:
        yield talk
    finally:
        await session.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.01)


def shown(item: Any) -> str:
    """Return a line for an item of the history."""
    match item:
        case llm.ChatMessage():
            return str(item.text_content)
        case llm.FunctionCall():
            return f"-> {item.name} {item.arguments}"
        case llm.FunctionCallOutput():
            return f"<- {item.name} {f'failed: {item.output}' if item.is_error else item.output}"
        case _:
            return f"{item.old_agent_id} => {item.new_agent_id}"
