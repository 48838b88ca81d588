"""The state of a scripted conversation, and its next answer: a pure fold over the caller's messages.

No state is kept outside the chat history. A conversation that is restored from its log continues where it
was, and an answer that is discarded has no effect.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from antiphon.agent_worker.flow.model import Flow, Rule
from antiphon.agent_worker.flow.phrase import Match, PhraseMatcher


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
    """The rules of a flow, applied to a conversation."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._matcher = PhraseMatcher(flow)

    def state_after(self, messages: Iterable[UserMessage], succeeded: CallSucceeded) -> DialogueState:
        """Fold the caller's messages and the outcomes of tool calls into a state."""
        state = DialogueState(self._flow.entry)
        for message in messages:
            state = self._next(state, self.reply(state, message.text), succeeded(message.call_id))
        return state

    def reply(self, state: DialogueState, text: str) -> Reply:
        """Return the first rule that applies to a message."""
        match = self._matcher.match(text)
        if match is None:
            return Reply(None, state.slots)
        slots = {**state.slots, **match.slots}
        rules = self._flow.rules_of(state.agent)
        rule = next((rule for rule in rules if _applies(rule, match, slots, state.asked)), None)
        return Reply(rule, slots)

    @staticmethod
    def _next(state: DialogueState, reply: Reply, succeeded: bool) -> DialogueState:
        rule = reply.rule
        if rule is None:
            return state  # not understood: the question stays open
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
