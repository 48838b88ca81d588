"""A deterministic language model that follows the rules of a flow, as a LiveKit LLM plug-in."""

from typing import Any

from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.flow.answers import RuleAnswers, speech
from antiphon.agent_worker.flow.bound import BoundFlow


class ScriptedLLM(llm.LLM[Any]):
    """The model of one agent of a flow. It is stateless: its only input is the chat context."""

    def __init__(self, bound: BoundFlow, agent: str) -> None:
        super().__init__()
        self._bound = bound
        self._agent = agent
        self._answers = RuleAnswers(bound, agent)

    @property
    def model(self) -> str:
        """Return the model's name in usage metrics."""
        return "scripted"

    @property
    def provider(self) -> str:
        """Return the provider's name in usage metrics."""
        return "offline"

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
        """Answer the last message of the caller; without tool calls when `tool_choice` is "none"."""
        answer = self.answer(chat_ctx, may_call=tool_choice != "none")
        return _Stream(self, answer, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    def answer(self, chat_ctx: llm.ChatContext, *, may_call: bool = True) -> llm.ChoiceDelta:
        """Return the answer to the last message of the caller, or the greeting when there is none."""
        if not self._answers.is_asked(chat_ctx):
            return speech(self._bound.greeting_of(self._agent) or "")
        answer = self._answers.answer(chat_ctx, may_call=may_call)
        if answer is not None:
            return answer
        fallback = self._bound.flow.fallback_of(self._agent)
        return speech(self._bound.text(fallback) if fallback else "")


class _Stream(llm.LLMStream):
    def __init__(self, model: ScriptedLLM, answer: llm.ChoiceDelta, **context: Any) -> None:
        self._answer = answer
        super().__init__(model, **context)

    async def _run(self) -> None:
        prompt = sum(_count_tokens(_text(item)) for item in self._chat_ctx.items)
        completion = _count_tokens(self._answer.content or "") + sum(
            _count_tokens(f"{call.name} {call.arguments}") for call in self._answer.tool_calls
        )
        usage = llm.CompletionUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
        last = self._chat_ctx.items[-1].id if self._chat_ctx.items else "start"
        self._event_ch.send_nowait(llm.ChatChunk(id=f"scripted_{last}", delta=self._answer))
        self._event_ch.send_nowait(llm.ChatChunk(id=f"scripted_{last}", usage=usage))


def _text(item: llm.ChatItem) -> str:
    match item:
        case llm.ChatMessage():
            return item.text_content or ""
        case llm.FunctionCall():
            return f"{item.name} {item.arguments}"
        case llm.FunctionCallOutput():
            return item.output
        case _:
            return ""


def _count_tokens(text: str) -> int:
    return len(text.split())  # one token per word
