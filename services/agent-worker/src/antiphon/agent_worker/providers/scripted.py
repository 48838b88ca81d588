"""A language model that follows a flow's rules: a real LLM plug-in, and the same answer every time."""

import json
from typing import Any

from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.flow.dialogue import Dialogue, Reply, Said
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.template import fill
from antiphon.agent_worker.flow.tool_names import END_CALL, hand_off_tool
from antiphon.agent_worker.flow.tools import TOOLS
from antiphon.agent_worker.flow.understanding import meaning


class ScriptedLLM(llm.LLM[Any]):
    """The model of one agent of a flow. It keeps nothing between calls: the chat context is its memory."""

    def __init__(self, flow: Flow, agent: str) -> None:
        super().__init__()
        self._flow = flow
        self._agent = agent
        self._dialogue = Dialogue(flow)

    @property
    def model(self) -> str:
        """Return the model's name, as usage counts it."""
        return "scripted"

    @property
    def provider(self) -> str:
        """Return the provider's name, as usage counts it."""
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
        """Answer the conversation; no tool is called when `tool_choice` is "none"."""
        answer = self.answer(chat_ctx, may_call=tool_choice != "none")
        return _Stream(self, answer, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    def answer(self, chat_ctx: llm.ChatContext, *, may_call: bool = True) -> llm.ChoiceDelta:
        """Decide what comes next in a conversation."""
        said = [_said(item) for item in chat_ctx.items if item.type == "message" and item.role == "user"]
        if not said:
            return _speech(self._flow.agents[self._agent].greeting)
        outputs = {item.call_id: item for item in chat_ctx.items if item.type == "function_call_output"}
        standing = self._dialogue.stand(said[:-1], lambda call_id: _succeeded(outputs.get(call_id)))
        reply = self._dialogue.reply(standing.taken_over_by(self._agent), said[-1].text)
        return self._spoken(reply, said[-1].call_id, outputs.get(said[-1].call_id), may_call)

    def _spoken(
        self, reply: Reply, call_id: str, output: llm.FunctionCallOutput | None, may_call: bool
    ) -> llm.ChoiceDelta:
        rule = reply.rule
        if rule is None:
            return _speech(self._flow.fallback)
        if rule.call is not None and output is None and may_call:
            values = meaning(self._flow, reply.slots)
            arguments = {name: values[name] for name in TOOLS[rule.call].arguments.model_fields}
            return _call(rule.call, arguments, call_id)
        if rule.call is not None and not _succeeded(output):
            return _speech(fill(rule.on_failure or self._flow.fallback, reply.slots))
        speech = _speech(fill(rule.say, {**reply.slots, **_read(output)}))
        action = END_CALL if rule.end else hand_off_tool(rule.hand_off) if rule.hand_off else None
        if action is not None and output is None and may_call:
            speech.tool_calls = _call(action, {}, call_id).tool_calls
        return speech


class _Stream(llm.LLMStream):
    def __init__(self, model: ScriptedLLM, answer: llm.ChoiceDelta, **context: Any) -> None:
        self._answer = answer
        super().__init__(model, **context)

    async def _run(self) -> None:
        prompt = sum(_count(_text(item)) for item in self._chat_ctx.items)
        completion = _count(self._answer.content or "") + sum(
            _count(f"{call.name} {call.arguments}") for call in self._answer.tool_calls
        )
        usage = llm.CompletionUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )
        last = self._chat_ctx.items[-1].id if self._chat_ctx.items else "start"
        self._event_ch.send_nowait(llm.ChatChunk(id=f"scripted_{last}", delta=self._answer))
        self._event_ch.send_nowait(llm.ChatChunk(id=f"scripted_{last}", usage=usage))


def _said(item: llm.ChatMessage) -> Said:
    # the call's id follows from the message, so that the same turn asked twice is the same call
    return Said(item.text_content or "", f"call_{item.id}")


def _speech(text: str) -> llm.ChoiceDelta:
    return llm.ChoiceDelta(role="assistant", content=text)


def _call(name: str, arguments: dict[str, Any], call_id: str) -> llm.ChoiceDelta:
    call = llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=call_id)
    return llm.ChoiceDelta(role="assistant", tool_calls=[call])


def _succeeded(output: llm.FunctionCallOutput | None) -> bool:
    return output is not None and not output.is_error


def _read(output: llm.FunctionCallOutput | None) -> dict[str, Any]:
    return dict(json.loads(output.output)) if output is not None and output.output else {}


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


def _count(text: str) -> int:
    # a scripted token is a word
    return len(text.split())
