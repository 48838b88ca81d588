"""LiveKit agents built from a flow: tools, hand-offs and the end of the call."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from livekit.agents import Agent, RunContext, function_tool, llm
from livekit.agents.types import NOT_GIVEN, NotGivenOr

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.tools import END_CALL, TOOLS, Tool, hand_off_tool
from antiphon.agent_worker.providers.table import LlmFactory


class FlowAgent(Agent):
    """One agent of a flow. With `greets` it speaks its greeting on entry, as after a hand-off."""

    def __init__(
        self,
        flow: Flow,
        name: str,
        build_llm: LlmFactory,
        *,
        chat_ctx: NotGivenOr[llm.ChatContext | None] = NOT_GIVEN,
        greets: bool = False,
    ) -> None:
        script = flow.agents[name]
        super().__init__(
            id=name,
            instructions=script.instructions,
            chat_ctx=chat_ctx,
            tools=_tools(flow, name, build_llm),
            llm=build_llm(flow, name),
        )
        self._greeting = script.greeting if greets else None

    async def on_enter(self) -> None:
        """Greet the caller after a hand-off."""
        if self._greeting is not None:
            await self.session.say(self._greeting)


def build_entry_agent(flow: Flow, build_llm: LlmFactory) -> FlowAgent:
    """Return the agent that answers the call; the others are created at a hand-off."""
    return FlowAgent(flow, flow.entry, build_llm)


def _tools(flow: Flow, name: str, build_llm: LlmFactory) -> list[llm.Tool | llm.Toolset]:
    rules = flow.rules_of(name)
    called = sorted({rule.call for rule in rules if rule.call is not None})
    targets = sorted({rule.hand_off for rule in rules if rule.hand_off is not None})
    tools: list[llm.Tool | llm.Toolset] = [_tool(TOOLS[tool]) for tool in called]
    tools += [_hand_off(flow, target, build_llm) for target in targets if target != name]
    return [*tools, _END_CALL]


def _tool(tool: Tool) -> llm.Tool:
    async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> str:
        arguments = tool.arguments.model_validate(raw_arguments)
        return json.dumps(await tool.run(arguments, context.function_call.call_id))

    schema = tool.arguments.model_json_schema()
    return _function(run, tool.name, tool.description, schema)


def _hand_off(flow: Flow, target: str, build_llm: LlmFactory) -> llm.Tool:
    async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> Agent:
        history = context.session.history.copy(exclude_instructions=True)
        return FlowAgent(flow, target, build_llm, chat_ctx=history, greets=True)

    about = flow.agents[target].instructions
    return _function(run, hand_off_tool(target), f"Hand the caller over to {target}: {about}", _NO_ARGUMENTS)


async def _end_call(raw_arguments: dict[str, object], context: RunContext[Any]) -> None:
    # the callback runs when the speech has been played or interrupted; the call ends either way
    context.speech_handle.add_done_callback(lambda _: context.session.shutdown(drain=True))


def _function(
    run: Callable[..., Awaitable[Any]], name: str, description: str, parameters: dict[str, Any]
) -> llm.Tool:
    return function_tool(run, raw_schema={"name": name, "description": description, "parameters": parameters})


_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_END_CALL = _function(_end_call, END_CALL, "End the call once the goodbye was heard.", _NO_ARGUMENTS)
