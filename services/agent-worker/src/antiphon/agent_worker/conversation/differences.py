"""What a step of a conversation expects, compared with what happened."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from antiphon.agent_worker.conversation.happenings import Called, Ended, Failed, HandedOff, Happening, Said
from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.flow.expect import Step
from antiphon.agent_worker.flow.model import Flow

NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """What was expected of a step (its key, as `agent`), what happened instead, and the line in the file."""

    key: str
    expected: str
    heard: str
    line: int = 0


def differences(
    step: Step, happened: Sequence[Happening], flow: Flow, *, texts: bool = True
) -> Iterator[Difference]:
    """Yield where a step is not as expected; keys that it does not have are not compared.

    Without `texts` what the agent says is not compared, as of a real model.
    """
    for happening in happened:
        if isinstance(happening, Failed):
            yield Difference("", "an answer", happening.reason)
    if texts:
        yield from _texts(step, happened)
    yield from _calls(step, happened, flow)
    yield from _hand_off(step, happened)
    ended = any(isinstance(happening, Ended) for happening in happened)
    if step.ends is not None and ended != step.ends:
        yield Difference("ends", _ending(ends=step.ends), _ending(ends=ended))


def _texts(step: Step, happened: Sequence[Happening]) -> Iterator[Difference]:
    said = [happening.text for happening in happened if isinstance(happening, Said)]
    if step.agent is not None and not matches(step.agent, said):
        yield Difference("agent", " / ".join(step.agent), " / ".join(said) or NOTHING)


def _calls(step: Step, happened: Sequence[Happening], flow: Flow) -> Iterator[Difference]:
    if step.calls is None:
        return
    # the tools that every flow has count only if they are expected
    builtin = {END_CALL, *map(hand_off_tool, flow.agents), *map(transfer_tool, flow.transfers)}
    unnamed = builtin.difference(step.calls)
    called = [happening.tool for happening in happened if isinstance(happening, Called)]
    counted = [tool for tool in called if tool not in unnamed]
    if counted != step.calls:
        yield Difference("calls", ", ".join(step.calls) or NOTHING, ", ".join(counted) or NOTHING)


def _hand_off(step: Step, happened: Sequence[Happening]) -> Iterator[Difference]:
    targets = [happening.target for happening in happened if isinstance(happening, HandedOff)]
    if step.hands_off_to is not None and targets[-1:] != [step.hands_off_to]:
        yield Difference("hands_off_to", step.hands_off_to, ", ".join(targets) or "no hand-off")


def matches(expected: Sequence[str], said: Sequence[str]) -> bool:
    """Return whether texts are as expected; `*` stands for any words, and spaces do not count."""
    pattern = ".*".join(re.escape(_plain([part])) for part in " ".join(expected).split("*"))
    return re.fullmatch(pattern, _plain(said), re.DOTALL) is not None


def _plain(texts: Sequence[str]) -> str:
    return " ".join(" ".join(texts).split())


def _ending(*, ends: bool) -> str:
    return "the call ends" if ends else "the call goes on"
