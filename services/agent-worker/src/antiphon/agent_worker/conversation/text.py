"""A conversation with a flow in text: LiveKit's AgentSession in this process, without room and audio."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from livekit.agents import (
    AgentSession,
    CloseEvent,
    CloseReason,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    llm,
    mock_tools,
)

from antiphon.agent_worker.agents import FlowAgent, entry_agent, next_agent
from antiphon.agent_worker.call import Call, only_llm
from antiphon.agent_worker.conversation.happenings import Called, Ended, Failed, HandedOff, Happening, Said
from antiphon.agent_worker.conversation.telephone import Substitute, TextRecord, TextTelephone
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.builtin import transfer_tool
from antiphon.agent_worker.flow.call import KEYS, KeyAction
from antiphon.agent_worker.flow.phrase import parse_phrase, sentences
from antiphon.agent_worker.hand_off import HandOffRefused, successor
from antiphon.agent_worker.providers.table import LlmFactory
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.agent_worker.transfers import transfer_caller

CLOSE_SECONDS = 10.0
END_OF_NUMBER = "#"
TELEPHONE_KEYS = KEYS
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {str(digit): name for digit, name in enumerate(NAMES)}


class TextConversation:
    """A call by text. `substitutes` replace tools by name; `timeout_seconds` limits each answer."""

    def __init__(
        self,
        bound: BoundFlow,
        build_llm: LlmFactory,
        *,
        substitutes: Mapping[str, Substitute] | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._bound = bound
        self._build_llm = build_llm
        self._call = Call(bound, only_llm(build_llm))
        self._record = TextRecord()
        self._timeout_seconds = timeout_seconds
        self._happened: list[tuple[float, Happening]] = []
        self._closed = asyncio.Event()
        self._spoke = asyncio.Event()
        self._tools: SessionTools | None = None
        self._session: AgentSession[None] = AgentSession(
            vad=None,
            max_tool_steps=bound.flow.limits.tool_calls,
            user_away_timeout=None,
            turn_handling={"turn_detection": "manual", "preemptive_generation": {"enabled": False}},
        )
        people = {transfer_tool(person) for person in bound.flow.transfers}
        self._transfers = {name: run for name, run in (substitutes or {}).items() if name in people}
        tools = {name: run for name, run in (substitutes or {}).items() if name not in people}
        mock_tools(FlowAgent, tools, session=self._session)
        self._session.on("conversation_item_added", self._on_item)
        self._session.on("function_tools_executed", self._on_tools)
        self._session.on("error", self._on_error)
        self._session.on("close", self._on_close)

    async def __aenter__(self) -> Self:
        self._tools = SessionTools(self._bound)  # its MCP servers start now
        self._bound = bound = self._tools.bound
        telephone = TextTelephone(bound, self._transfers)
        self._call = Call(bound, only_llm(self._build_llm), self._record, telephone)
        await self._session.start(entry_agent(self._call), session_host=False, record=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._session.aclose()
        finally:
            if self._tools is not None:
                await self._tools.close()

    @property
    def agent(self) -> str:
        """The name of the agent in charge."""
        return str(self._session.current_agent.id)

    @property
    def has_ended(self) -> bool:
        """Whether the agent has ended the call."""
        return self._closed.is_set()

    async def greet(self) -> list[Happening]:
        """Return the greeting."""
        greeting = self._bound.greeting_of(self._bound.flow.first)
        if greeting is not None:
            await self._speak(greeting)
        return self._take()

    async def hear(self, words: str) -> list[Happening]:
        """Return what follows on words of the caller."""
        await self._settled(self._session.run(user_input=words))
        return self._take()

    async def stay_silent(self) -> list[Happening]:
        """Return what the agent says to a silent caller."""
        silence = self._bound.flow.silence
        if silence is not None:
            await self._speak(self._bound.text(silence.say))
        return self._take()

    async def press(self, keys: str) -> list[Happening]:
        """Return what follows on keys of the telephone, pressed without a pause, which then ends a number."""
        dtmf = self._bound.flow.dtmf
        if dtmf is None:
            return []
        number = ""
        for key in keys:
            action = dtmf.keys.get(key)
            if dtmf.collect and key in DIGITS and (number or action is None):
                number += key
            elif number and key == END_OF_NUMBER:
                await self._hear_number(number)
                number = ""
            elif action is not None:
                await self._act(key, action)
        if number:
            await self._hear_number(number)
        return self._take()

    async def _hear_number(self, number: str) -> None:
        model = self._bound.flow.voice_of(self.agent).llm
        scripted = model is not None and model.use == "offline"
        words = " ".join(DIGITS[digit] for digit in number) if scripted else number
        await self._settled(self._session.run(user_input=words))

    async def _act(self, key: str, action: KeyAction) -> None:
        if action.say is not None:
            await self._speak(self._bound.text(action.say))
        if action.hear is not None:
            await self._settled(self._session.run(user_input=self._words(action.hear)))
        if action.hand_off is not None:
            await self._hand_off(action.hand_off)
        if action.transfer is not None:
            await self._settled(self._transfer(action.transfer, f"key: {key}"))
        if action.end:
            self._session.shutdown(drain=True)
            await self._closed.wait()

    async def _hand_off(self, target: str) -> None:
        if target == self.agent:
            return  # as in a call
        try:
            agent = successor(self._call, self._session, self.agent, target, next_agent(self._call))
        except HandOffRefused as refused:
            self._note(Failed(str(refused)))
            return
        self._spoke.clear()
        self._session.update_agent(agent)
        if self._bound.greeting_of(target) is not None:
            async with asyncio.timeout(self._timeout_seconds):
                await self._spoke.wait()

    async def _transfer(self, person: str, reason: str) -> None:
        self._spoke.clear()
        failed = await transfer_caller(self._call, self._session, person, reason)
        if failed is not None and self._bound.flow.transfers[person].on_failure is not None:
            await self._spoke.wait()

    def _words(self, heard: str) -> str:
        """Return what is heard: the first sentence of a phrase, or words as they are."""
        flow = self._bound.flow
        if heard not in flow.phrases:
            return heard
        values = {slot: list(words) for slot, words in flow.slots.items()}
        return next(iter(sentences(parse_phrase(flow.phrases[heard][0]), values)), heard)

    async def _speak(self, text: str) -> None:
        await self._settled(self._session.say(text))

    async def _settled(self, answer: Any) -> None:
        """Wait until an answer is complete, and the call has ended if it ends it."""
        waiting = asyncio.ensure_future(_result_of(answer))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await asyncio.wait({waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    waiting.result()
                if self._session._is_closing() or self._record.transferred:
                    self._session.shutdown(drain=True)
                    await closed
        except TimeoutError:
            self._note(Failed(f"no answer within {self._timeout_seconds:g} s"))
        except Exception as error:  # noqa: BLE001 - of a model or the framework: the conversation shows it
            self._note(Failed(f"{type(error).__name__}: {error}"))
        finally:
            waiting.cancel()
            closed.cancel()

    def _take(self) -> list[Happening]:
        happened, self._happened = self._happened, []
        # an answer is announced at its end, but began before the tools that it calls
        return [happening for _, happening in sorted(happened, key=lambda timed: timed[0])]

    def _note(self, happening: Happening, at: float | None = None) -> None:
        if any(happening == known for _, known in self._happened if isinstance(known, Failed)):
            return  # an error comes as an event, and from the answer
        last = self._happened[-1][0] if self._happened else 0.0
        self._happened.append((last if at is None else at, happening))

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, llm.ChatMessage):
            if item.role == "assistant" and item.text_content:
                self._note(Said(self.agent, item.text_content), item.created_at)
                self._spoke.set()
        elif isinstance(item, llm.AgentHandoff) and item.old_agent_id is not None:
            self._note(HandedOff(item.old_agent_id, item.new_agent_id), item.created_at)

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            failed = output is None or output.is_error
            result = "" if output is None else output.output
            self._note(Called(call.name, _arguments(call.arguments), result, failed), call.created_at)

    def _on_error(self, event: ErrorEvent) -> None:
        error = getattr(event.error, "error", event.error)
        if not getattr(event.error, "recoverable", False):
            self._note(Failed(f"{type(error).__name__}: {error}"))

    def _on_close(self, event: CloseEvent) -> None:
        by_agent = event.reason is CloseReason.USER_INITIATED  # LiveKit's word for the program
        reason = "agent_ended" if by_agent else event.reason.value  # as on record
        self._note(Ended("transferred" if self._record.transferred else reason))
        self._closed.set()


async def _result_of(answer: Any) -> None:
    await answer


def _arguments(text: str) -> Mapping[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except ValueError:
        return {"": text}
    return arguments if isinstance(arguments, dict) else {"": arguments}
