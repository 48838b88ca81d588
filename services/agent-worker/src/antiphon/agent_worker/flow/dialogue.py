"""The state of a scripted conversation, and its next answer: a pure fold over the caller's messages.

No state is kept outside the chat history. A conversation that is restored from its log continues where it
was, and an answer that is discarded has no effect.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.phrase import Match, PhraseMatcher
from antiphon.agent_worker.flow.script import Rule


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message of the caller; `call_id` is the id of the tool call that answers it, if there is one."""

    text: str
    call_id: str


@dataclass(frozen=True, slots=True)
class DialogueState:
    """The agent in charge, the words in each slot, and the question that was asked last."""

    agent: str
    slots: Mapping[str, str] = field(default_factory=dict)
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The rule that answers a message (None: not understood), and the slots at that point."""

    rule: Rule | None
    slots: Mapping[str, str]


CallSucceeded = Callable[[str], bool]  # by call id


class Dialogue:
    """The rules of a flow, applied to a conversation.

    A message that no rule answers leaves the question of the last rule open, unless a model answers it.
    """

    def __init__(self, flow: Flow, *, model_answers: bool = False) -> None:
        self._flow = flow
        self._matcher = PhraseMatcher(flow)
        self._model_answers = model_answers

    def state_after(self, messages: Iterable[UserMessage], succeeded: CallSucceeded) -> DialogueState:
        """Fold the caller's messages and the outcomes of tool calls into a state."""
        state = DialogueState(self._flow.first)
        for message in messages:
            state = self.after(state, message, succeeded)
        return state

    def after(self, state: DialogueState, message: UserMessage, succeeded: CallSucceeded) -> DialogueState:
        """Return the state after one more message."""
        return self._next(state, self.reply(state, message.text), succeeded(message.call_id))

    def understands(self, text: str) -> bool:
        """Return whether a text is one of the phrases."""
        return self._matcher.match(text) is not None

    def reply(self, state: DialogueState, text: str) -> Reply:
        """Return the first rule that applies to a message."""
        match = self._matcher.match(text)
        if match is None:
            return Reply(None, state.slots)
        slots = {**state.slots, **match.slots}
        rules = self._flow.rules_of(state.agent)
        rule = next((rule for rule in rules if _applies(rule, match, slots, state.asked)), None)
        return Reply(rule, slots)

    def _next(self, state: DialogueState, reply: Reply, succeeded: bool) -> DialogueState:
        rule = reply.rule
        if rule is None:
            return replace(state, slots=reply.slots, asked=None) if self._model_answers else state
        if rule.call is not None and not succeeded:
            return replace(state, slots=reply.slots)
        kept = {name: words for name, words in reply.slots.items() if name not in rule.forget}
        return DialogueState(rule.hand_off or state.agent, kept, rule.asks)


def _applies(rule: Rule, match: Match, slots: Mapping[str, str], asked: str | None) -> bool:
    return (
        match.phrase in rule.hear
        and (rule.after is None or rule.after == asked)
        and all(name in slots for name in rule.needs)
    )
