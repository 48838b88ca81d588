"""Where a scripted conversation stands, and what comes next: a pure fold over what the caller has said.

Nothing is remembered outside the conversation itself, so a conversation that is restored from its record
goes on where it was, and an answer that is thrown away has changed nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from antiphon.agent_worker.flow.model import Flow, Rule
from antiphon.agent_worker.flow.understanding import Heard, Understanding


@dataclass(frozen=True, slots=True)
class Said:
    """One thing the caller said; `call_id` is the id of the tool call that answers it, if one does."""

    text: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is speaking with the caller, what the caller filled in, and what was asked last."""

    agent: str
    slots: Mapping[str, str] = field(default_factory=dict)
    asked: str | None = None

    def taken_over_by(self, agent: str) -> "Standing":
        """Return the same standing with the agent that really speaks: a hand-off may have failed."""
        return replace(self, agent=agent)


@dataclass(frozen=True, slots=True)
class Reply:
    """The rule that answers what was said (None: not understood), and what is known then."""

    rule: Rule | None
    slots: Mapping[str, str]


CallSucceeded = Callable[[str], bool]


class Dialogue:
    """The rules of one flow, applied."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._understanding = Understanding(flow)

    def stand(self, said: Iterable[Said], succeeded: CallSucceeded) -> Standing:
        """Fold what was said, and which tool calls succeeded, into where the conversation stands."""
        standing = Standing(self._flow.entry)
        for one in said:
            standing = self._after(standing, self.reply(standing, one.text), succeeded(one.call_id))
        return standing

    def reply(self, standing: Standing, text: str) -> Reply:
        """Choose the first rule that fits what was said."""
        heard = self._understanding.read(text)
        if heard is None:
            return Reply(None, standing.slots)
        slots = {**standing.slots, **heard.slots}
        rules = self._flow.rules_of(standing.agent)
        rule = next((rule for rule in rules if _fits(rule, heard, slots, standing.asked)), None)
        return Reply(rule, slots)

    @staticmethod
    def _after(standing: Standing, reply: Reply, succeeded: bool) -> Standing:
        rule = reply.rule
        if rule is None:
            return standing  # a cough changes nothing: what was asked is still asked
        if rule.call is not None and not succeeded:
            return replace(standing, slots=reply.slots)
        kept = {name: words for name, words in reply.slots.items() if name not in rule.forget}
        return Standing(rule.hand_off or standing.agent, kept, rule.asks)


def _fits(rule: Rule, heard: Heard, slots: Mapping[str, str], asked: str | None) -> bool:
    return (
        heard.phrase in rule.hear
        and (rule.after is None or rule.after == asked)
        and all(name in slots for name in rule.needs)
    )
