"""The answers that rules give: what a flow's agent says and calls, computed from the chat context alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from livekit.agents import llm

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.flow.dialogue import Dialogue, DialogueState, Reply, UserMessage
from antiphon.agent_worker.flow.phrase import slot_values
from antiphon.agent_worker.flow.script import Rule


@dataclass(frozen=True, slots=True)
class _Asked:
    """The state of the dialogue, and the caller's last message if the agent in charge is to answer it."""

    state: DialogueState
    message: UserMessage | None
    outputs: Mapping[str, llm.FunctionCallOutput]


class RuleAnswers:
    """The rules of one agent of a flow. It is stateless: its only input is the chat context.

    With `model_answers`, a model answers what no rule applies to, and the question of a rule is closed then.
    """

    def __init__(self, bound: BoundFlow, agent: str, *, model_answers: bool = False) -> None:
        self._bound = bound
        self._agent = agent
        self._model_answers = model_answers
        self._dialogue = Dialogue(bound.flow, model_answers=model_answers)

    def is_asked(self, chat_ctx: llm.ChatContext) -> bool:
        """Return whether the caller has said something since this agent is in charge."""
        return self._asked(chat_ctx).message is not None

    def understands(self, text: str) -> bool:
        """Return whether a text is one of the phrases of the flow."""
        return self._dialogue.understands(text)

    def slots(self, chat_ctx: llm.ChatContext) -> Mapping[str, str]:
        """Return the words in the slots, those of the last message too."""
        asked = self._asked(chat_ctx)
        return asked.state.slots if asked.message is None else self._reply(asked, asked.message).slots

    def rule_of(self, chat_ctx: llm.ChatContext, call_id: str) -> Rule | None:
        """Return the rule that made a tool call; None if the model made it."""
        asked = self._asked(chat_ctx)
        if asked.message is None or asked.message.call_id != call_id:
            return None
        return self._reply(asked, asked.message).rule

    def answer(self, chat_ctx: llm.ChatContext, *, may_call: bool = True) -> llm.ChoiceDelta | None:
        """Return the answer to the last message of the caller; None when no rule has one."""
        asked = self._asked(chat_ctx)
        if asked.message is None:
            return None
        reply, call_id = self._reply(asked, asked.message), asked.message.call_id
        if reply.rule is None:
            return None
        output = asked.outputs.get(call_id)
        if output is not None and output.is_error:
            return self._failed(reply.rule, reply.slots)
        return self._to_delta(reply.rule, reply.slots, call_id, output, may_call)

    def _failed(self, rule: Rule, slots: Mapping[str, str]) -> llm.ChoiceDelta | None:
        return None if rule.on_failure is None else speech(self._bound.spoken(rule.on_failure, slots))

    def _to_delta(
        self,
        rule: Rule,
        slots: Mapping[str, str],
        call_id: str,
        output: llm.FunctionCallOutput | None,
        may_call: bool,
    ) -> llm.ChoiceDelta | None:
        if rule.call is not None and output is None:
            if not may_call:
                return self._failed(rule, slots)
            values = slot_values(self._bound.flow, slots)
            names = self._bound.arguments_of(rule.call)
            return _call(rule.call, {name: values[name] for name in names if name in values}, call_id)
        answer = speech(self._bound.spoken(rule.say, {**slots, **result_of(output)}))
        action = _action(rule)
        if action is not None and output is None and may_call:
            answer.tool_calls = _call(action, {}, call_id).tool_calls
        return answer

    def _reply(self, asked: _Asked, message: UserMessage) -> Reply:
        # a hand-off may have failed: the agent in charge is the one that is asked
        return self._dialogue.reply(replace(asked.state, agent=self._agent), message.text)

    def _asked(self, chat_ctx: llm.ChatContext) -> _Asked:
        outputs = {item.call_id: item for item in chat_ctx.items if item.type == "function_call_output"}
        state, last = DialogueState(self._bound.flow.first), None
        for item in chat_ctx.items:
            heard = _user_message(item)
            if last is not None and (heard is not None or item.type == "agent_handoff"):
                state = self._dialogue.after(state, last, lambda call: _succeeded(outputs.get(call)))
                last = None
            if item.type == "agent_handoff":
                state = replace(state, agent=item.new_agent_id)
            last = heard or last
        return _Asked(state, last, outputs)


def result_of(output: llm.FunctionCallOutput | None) -> dict[str, Any]:
    """Return the fields of a tool's result; none if it is no JSON object."""
    if output is None or output.is_error:
        return {}
    try:
        result = json.loads(output.output)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def speech(text: str) -> llm.ChoiceDelta:
    """Return an answer that is only spoken."""
    return llm.ChoiceDelta(role="assistant", content=text)


def _action(rule: Rule) -> str | None:
    """Return the tool that a rule calls after its answer."""
    if rule.end:
        return END_CALL
    if rule.hand_off is not None:
        return hand_off_tool(rule.hand_off)
    return None if rule.transfer is None else transfer_tool(rule.transfer)


def _user_message(item: llm.ChatItem) -> UserMessage | None:
    if item.type != "message" or item.role != "user":
        return None
    # the call id is derived from the message id, so answering a message twice is the same call
    return UserMessage(item.text_content or "", f"call_{item.id}")


def _call(name: str, arguments: dict[str, Any], call_id: str) -> llm.ChoiceDelta:
    call = llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=call_id)
    return llm.ChoiceDelta(role="assistant", tool_calls=[call])


def _succeeded(output: llm.FunctionCallOutput | None) -> bool:
    return output is not None and not output.is_error
