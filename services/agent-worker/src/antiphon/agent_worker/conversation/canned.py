"""Answers of models and results of tools that an expectation gives, in place of the real ones."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import RunContext, ToolError, function_tool, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.conversation.telephone import Substitute
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.flow.expect import ModelAnswer
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.tools.results import result_text

ERROR = "error"  # a result with this key alone is a failure
ANY_OBJECT: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}


@dataclass(slots=True)
class Answers:
    """The answers of the models in a step, in order, and what was wrong with them."""

    left: deque[ModelAnswer] = field(default_factory=deque)
    problems: list[str] = field(default_factory=list)
    calls: int = 0

    def load(self, answers: Iterable[ModelAnswer]) -> None:
        """Take the answers of a step."""
        self.left = deque(answers)
        self.problems = []

    def next(self, agent: str, offered: set[str]) -> llm.ChoiceDelta:
        """Return the next answer, given the tools that the agent may call."""
        if not self.left:
            self.problems.append(f"the model of {agent} was asked, and `model` has no answer left for it")
            return llm.ChoiceDelta(role="assistant", content="")
        answer = self.left.popleft()
        for name in answer.call.keys() - offered:
            self.problems.append(f"{agent} has no tool {name!r}; it has {', '.join(sorted(offered))}")
        return llm.ChoiceDelta(
            role="assistant",
            content=answer.say,
            tool_calls=[self._call(name, arguments) for name, arguments in answer.call.items()],
        )

    def _call(self, name: str, arguments: Mapping[str, Any]) -> llm.FunctionToolCall:
        self.calls += 1
        return llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=f"call_{self.calls}")


class CannedLLM(llm.LLM[Any]):
    """The model of one agent, whose answers are given."""

    def __init__(self, answers: Answers, agent: str) -> None:
        super().__init__()
        self._answers = answers
        self._agent = agent

    @property
    def model(self) -> str:
        """Return the model's name in usage metrics."""
        return "canned"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        """Return the next answer."""
        offered = {tool.id for tool in tools or [] if not isinstance(tool, llm.Toolset)}
        answer = self._answers.next(self._agent, offered)
        return _Stream(self, answer, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    def __init__(self, model: CannedLLM, answer: llm.ChoiceDelta, **context: Any) -> None:
        self._answer = answer
        super().__init__(model, **context)

    async def _run(self) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id="canned", delta=self._answer))


@function_tool(raw_schema={"name": "stand_in", "description": "Not called.", "parameters": dict(ANY_OBJECT)})
async def stand_in(raw_arguments: dict[str, object], context: RunContext[Any]) -> str:
    """Fail as a tool that a test must not call."""
    raise ToolError(f"{context.function_call.name} is not called in a test: give its result in `tools`")


STAND_IN = f"{__name__}:stand_in"


def substitutes(flow: Flow, results: Mapping[str, Any]) -> dict[str, Substitute]:
    """Return the tools whose results are given; one without the `outputs` of its tool is an error."""
    outputs = {name: definition.outputs for name, definition in flow.tools.items()}
    return {name: _returning(result, outputs.get(name, ())) for name, result in results.items()}


def without_servers(flow: Flow, results: Mapping[str, Any]) -> Flow:
    """Return a flow whose tools over HTTP and MCP are not called; those of an MCP server by their names.

    They are the tools that the flow lists for the server, else those whose results are given.
    """
    tools: dict[str, ToolDefinition] = {}
    members: dict[str, list[str]] = {}
    for name, definition in flow.tools.items():
        if definition.mcp is not None:
            members[name] = definition.mcp.tools or [tool for tool in results if tool not in flow.tools]
            tools |= dict.fromkeys(members[name], _stood_in(definition))
        else:
            tools[name] = definition if definition.http is None else _stood_in(definition)
    agents = {
        name: agent.model_copy(
            update={"tools": [one for tool in agent.tools or [] for one in members.get(tool, [tool])]}
        )
        for name, agent in flow.agents.items()
    }
    return flow.model_copy(update={"tools": tools, "agents": agents})


def _stood_in(definition: ToolDefinition) -> ToolDefinition:
    return definition.model_copy(update={"python": STAND_IN, "http": None, "mcp": None})


def _returning(result: Any, outputs: Sequence[str]) -> Substitute:
    async def run() -> str:
        if isinstance(result, dict) and result.keys() == {ERROR}:
            raise ToolError(str(result[ERROR]))
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        return result_text(text, outputs)

    return run
