"""A deterministic language model that follows the rules of a flow, as a LiveKit LLM plug-in."""

import json
from dataclasses import replace
from typing import Any

from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.flow.dialogue import Dialogue, Reply, UserMessage
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.phrase import slot_values
from antiphon.agent_worker.flow.template import render
from antiphon.agent_worker.flow.tools import END_CALL, TOOLS, hand_off_tool


class ScriptedLLM(llm.LLM[Any]):
    """The model of one agent of a flow. It is stateless: its only input is the chat context."""

    def __init__(self, flow: Flow, agent: str) -> None:
        super().__init__()
        self._flow = flow
        self._agent = agent
        self._dialogue = Dialogue(flow)

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
        messages = [
            _user_message(item) for item in chat_ctx.items if item.type == "message" and item.role == "user"
        ]
        if not messages:
            return _speech(self._flow.agents[self._agent].greeting)
        outputs = {item.call_id: item for item in chat_ctx.items if item.type == "function_call_output"}
        *earlier, last = messages
        state = self._dialogue.state_after(earlier, lambda call_id: _succeeded(outputs.get(call_id)))
        # a hand-off may have failed: the agent in charge is the one whose model is asked
        reply = self._dialogue.reply(replace(state, agent=self._agent), last.text)
        return self._to_delta(reply, last.call_id, outputs.get(last.call_id), may_call)

    def _to_delta(
        self, reply: Reply, call_id: str, output: llm.FunctionCallOutput | None, may_call: bool
    ) -> llm.ChoiceDelta:
        rule = reply.rule
        if rule is None:
            return _speech(self._flow.fallback)
        if rule.call is not None and output is None and may_call:
            values = slot_values(self._flow, reply.slots)
            arguments = {name: values[name] for name in TOOLS[rule.call].arguments.model_fields}
            return _call(rule.call, arguments, call_id)
        if rule.call is not None and not _succeeded(output):
            return _speech(render(rule.on_failure or self._flow.fallback, reply.slots))
        speech = _speech(render(rule.say, {**reply.slots, **_parsed(output)}))
        action = END_CALL if rule.end else hand_off_tool(rule.hand_off) if rule.hand_off else None
        if action is not None and output is None and may_call:
            speech.tool_calls = _call(action, {}, call_id).tool_calls
        return speech


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


def _user_message(item: llm.ChatMessage) -> UserMessage:
    # the call id is derived from the message id, so answering a message twice is the same call
    return UserMessage(item.text_content or "", f"call_{item.id}")


def _speech(text: str) -> llm.ChoiceDelta:
    return llm.ChoiceDelta(role="assistant", content=text)


def _call(name: str, arguments: dict[str, Any], call_id: str) -> llm.ChoiceDelta:
    call = llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=call_id)
    return llm.ChoiceDelta(role="assistant", tool_calls=[call])


def _succeeded(output: llm.FunctionCallOutput | None) -> bool:
    return output is not None and not output.is_error


def _parsed(output: llm.FunctionCallOutput | None) -> dict[str, Any]:
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


def _count_tokens(text: str) -> int:
    return len(text.split())  # one token per word
