"""LiveKit agents built from a flow: tools, hand-offs, answers that rules force, and the end of the call."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from livekit.agents import Agent, ModelSettings, RunContext, StopResponse, function_tool, llm
from livekit.agents.types import NOT_GIVEN, NotGivenOr

from antiphon.agent_worker.call import Call, only_llm, speak
from antiphon.agent_worker.flow.answers import RuleAnswers
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.hand_off import BuildAgent, hand_off_function, instructions_of
from antiphon.agent_worker.providers.table import LlmFactory
from antiphon.agent_worker.push_to_talk import require_words
from antiphon.agent_worker.tools.build import build_tool
from antiphon.agent_worker.transfers import transfer_function


class FlowAgent(Agent):
    """One agent of a flow. With `takes_over` it speaks on entry: its greeting, or its model's answer.

    Its rules are asked before its model: an answer of theirs is forced. Tools that only rules call are not
    shown to the model.
    """

    def __init__(
        self,
        call: Call,
        name: str,
        *,
        chat_ctx: NotGivenOr[llm.ChatContext] = NOT_GIVEN,
        history: llm.ChatContext | None = None,
        takes_over: bool = False,
    ) -> None:
        bound = call.bound
        history = history or llm.ChatContext.empty()
        super().__init__(
            id=name,
            instructions=instructions_of(bound, name, history),
            chat_ctx=chat_ctx,
            tools=list(_tools(call, name, history)),
            **call.voice(bound, name),
        )
        self._call = call
        self._takes_over = takes_over
        forces = bool(bound.flow.rules_of(name)) and not call.is_scripted(name)
        self._forced = RuleAnswers(bound, name, model_answers=True) if forces else None
        self._hidden = _only_of_rules(bound, name)

    async def on_enter(self) -> None:
        """Speak after a hand-off."""
        if not self._takes_over:
            return
        greeting = self._call.bound.greeting_of(self.id)
        if greeting is not None:
            await speak(self.session, greeting)
        elif not self._call.is_scripted(self.id):
            await self.session.generate_reply()

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        """Answer nothing while the call ends, and no turn in which nothing was said."""
        if self._call.silent:
            raise StopResponse
        require_words(self.session, new_message)

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterator[Any]:
        """Answer by a rule that applies, and otherwise by the model."""
        if self._forced is not None:
            answer = self._forced.answer(chat_ctx, may_call=model_settings.tool_choice != "none")
            if answer is not None:
                yield llm.ChatChunk(id=f"rule_{chat_ctx.items[-1].id}", delta=answer)
                return
            tools = [tool for tool in tools if tool.id not in self._hidden]
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk


def build_entry_agent(bound: BoundFlow, build_llm: LlmFactory) -> FlowAgent:
    """Return the agent that answers a conversation that is neither recorded nor by telephone."""
    return entry_agent(Call(bound, only_llm(build_llm)))


def entry_agent(call: Call) -> FlowAgent:
    """Return the agent that answers the call; the others are created at a hand-off."""
    return FlowAgent(call, call.bound.flow.first)


def next_agent(call: Call) -> BuildAgent:
    """Return the function that builds the agents that take over."""

    def build(name: str, chat_ctx: llm.ChatContext, history: llm.ChatContext) -> Agent:
        return FlowAgent(call, name, chat_ctx=chat_ctx, history=history, takes_over=True)

    return build


def _tools(call: Call, name: str, history: llm.ChatContext) -> Iterator[llm.Tool | llm.Toolset]:
    bound = call.bound
    agent, rules = bound.flow.agents[name], bound.flow.rules_of(name)
    for tool in sorted({rule.call for rule in rules if rule.call is not None}.union(agent.tools or ())):
        yield build_tool(bound, tool)

    answers = RuleAnswers(bound, name)
    targets = {rule.hand_off for rule in rules if rule.hand_off is not None}.union(agent.hand_offs)
    for target in sorted(targets - {name}):
        yield hand_off_function(call, answers, name, target, next_agent(call), history)
    people = {rule.transfer for rule in rules if rule.transfer is not None}.union(agent.transfers or ())
    for person in sorted(people):
        yield transfer_function(call, answers, person)
    yield _END_CALL


def _only_of_rules(bound: BoundFlow, name: str) -> set[str]:
    """Return the ids of the tools that rules call, and that the agent's model may not."""
    agent, rules = bound.flow.agents[name], bound.flow.rules_of(name)
    called = {rule.call for rule in rules if rule.call} - set(agent.tools or ())
    targets = {rule.hand_off for rule in rules if rule.hand_off} - agent.hand_offs.keys()
    people = {rule.transfer for rule in rules if rule.transfer} - set(agent.transfers or ())
    return called | {hand_off_tool(target) for target in targets} | {transfer_tool(one) for one in people}


async def _end_call(raw_arguments: dict[str, object], context: RunContext[Any]) -> None:
    # the callback runs when the speech has been played or interrupted; the call ends either way
    context.speech_handle.add_done_callback(lambda _: context.session.shutdown(drain=True))


_END_CALL = function_tool(
    _end_call,
    raw_schema={
        "name": END_CALL,
        "description": "End the call once the goodbye was heard.",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
)
