"""Hand-offs: which agent takes over, what it knows, how often it may happen, and why it did."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from livekit.agents import Agent, AgentSession, RunContext, function_tool, llm
from livekit.agents.llm import AgentHandoff, ChatContext, ToolError, ToolResult

from antiphon.agent_worker.call import Call, speak
from antiphon.agent_worker.flow.answers import RuleAnswers, result_of
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.builtin import hand_off_tool
from antiphon.agent_worker.flow.model import HandOff
from antiphon.agent_worker.flow.script import Rule

UNKNOWN = "(unknown)"  # in instructions, for a value that nobody has given yet
TOO_MANY = "TooManyHandOffs"
TAKE_OVER_SECONDS: Final = 30.0  # for a hand-off that has begun: the old agent finishes its sentence
LONGEST_REASON: Final = 500  # characters
# the arguments of the tools that hand over and transfer
REASON: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "description": "Why, in a few words."}},
    "additionalProperties": False,
}

# of the name of the agent that takes over, its context, and all that was said in the call
BuildAgent = Callable[[str, ChatContext, ChatContext], Agent]


class HandOffRefused(Exception):
    """The call has had all its hand-offs; the message says what to do."""


def hand_off_function(
    call: Call, answers: RuleAnswers, source: str, target: str, build: BuildAgent, history: ChatContext
) -> llm.Tool:
    """Return the tool of an agent that hands the caller over to another one; `history` is of the call."""
    agents = call.bound.flow.agents
    hand_off = agents[source].hand_offs.get(target, HandOff())

    async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> Agent | ToolResult:
        session, before = context.session, call.handing_over
        if under_way(session) and session.current_agent.id != source:  # by a key: its speech has been cut
            text = f"not handed over to {target}: {session.current_agent.id} takes over already"
            return ToolResult(text, reply_required=False)
        if before is not None and before[0] is context.speech_handle:  # LiveKit would drop both
            text = f"not handed over to {target}: {before[1]} takes over, by the same answer"
            return ToolResult(text, reply_required=False)
        rule = answers.rule_of(session.current_agent.chat_ctx, context.function_call.call_id)
        try:
            agent = successor(call, session, source, target, build)
        except HandOffRefused as refused:
            raise ToolError(str(refused)) from refused
        call.handing_over = (context.speech_handle, target)
        if hand_off.say is not None and rule is None:  # a rule has its own words
            speak(session, call.bound.text(hand_off.say))
        call.record.hands_off_for(why(rule, raw_arguments))
        return agent

    bound = call.bound
    if hand_off.when is not None:
        when = bound.text(hand_off.when)
    else:  # before it takes over, it is no surprise that a value is missing
        when = instructions_of(bound, target, history, quiet=True)
    schema = {
        "name": hand_off_tool(target),
        "description": f"Hand the caller over to {target}: {when}",
        "parameters": REASON,
    }
    return function_tool(run, raw_schema=schema)


def under_way(session: AgentSession[Any]) -> bool:
    """Return whether an agent is about to take over; `current_agent` is that agent already."""
    return _change_under_way(session) is not None


def _change_under_way(session: AgentSession[Any]) -> "asyncio.Task[None] | None":
    task = session._update_activity_atask
    return None if task is None or task.done() else task


async def taken_over(session: AgentSession[Any]) -> bool:
    """Wait for the end of a hand-off that is under way; return False if that takes too long."""
    try:
        async with asyncio.timeout(TAKE_OVER_SECONDS):
            while (task := _change_under_way(session)) is not None:
                await asyncio.wait([task])
    except TimeoutError:
        return False
    return True


def successor(call: Call, session: AgentSession[Any], source: str, target: str, build: BuildAgent) -> Agent:
    """Return the agent that takes over. Raises HandOffRefused, on record, when there were too many."""
    most = call.bound.flow.limits.hand_offs
    items = session.history.items
    done = sum(item.type == "agent_handoff" and item.old_agent_id is not None for item in items)
    if done >= most:
        reason = f"{source} did not hand over to {target}: the call has had {most} hand-offs, its limit"
        call.problem(TOO_MANY, f"{reason} (limits.hand_offs); {source} goes on")
        raise HandOffRefused(f"{reason}. Nobody else can take over: go on with the caller yourself.")
    hand_off = call.bound.flow.agents[source].hand_offs.get(target, HandOff())
    items = [] if hand_off.context == "cut" else session.history.copy(exclude_instructions=True).items
    # models are not sent it; the rules of the agent apply to what is said after it
    taken_over = AgentHandoff(old_agent_id=source, new_agent_id=target)
    return build(target, ChatContext([*items, taken_over]), session.history)


def instructions_of(bound: BoundFlow, agent: str, history: ChatContext, *, quiet: bool = False) -> str:
    """Return the instructions of an agent, with what the conversation has told so far."""
    instructions, known = bound.flow.agents[agent].instructions, told(bound, agent, history)
    return bound.spoken(instructions, known, missing=UNKNOWN, quiet=quiet)


def told(bound: BoundFlow, agent: str, history: ChatContext) -> dict[str, Any]:
    """Return the words in the slots of the script, and the newest `outputs` of the tools."""
    values: dict[str, Any] = dict(RuleAnswers(bound, agent).slots(history)) if bound.flow.scripted else {}
    for item in history.items:
        if item.type == "function_call_output" and item.name in bound.flow.tools:
            tool, result = bound.flow.tools[item.name], result_of(item)
            values.update({name: result[name] for name in tool.outputs if name in result})
    return values


def why(rule: Rule | None, arguments: Mapping[str, object]) -> str:
    """Return the reason of a tool call: the rule that made it, or the words of the model."""
    if rule is not None:
        return f"rule: {' or '.join(rule.hear)}"
    words = arguments.get("reason")
    return f"tool: {words[:LONGEST_REASON]}" if isinstance(words, str) and words.strip() else "tool"
