"""What a flow understands: the same phrases as a grammar for the recogniser and as patterns for its words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from antiphon.agent_worker.flow.model import Flow, Value
from antiphon.agent_worker.flow.phrase import parse_phrase, to_jsgf, to_regex

_NOT_A_WORD = re.compile(r"[^a-z']+")


@dataclass(frozen=True, slots=True)
class Heard:
    """A phrase of the flow that was said, and the words that filled its slots."""

    phrase: str
    slots: Mapping[str, str]


class Understanding:
    """Reads words as phrases of one flow."""

    def __init__(self, flow: Flow) -> None:
        self._patterns = tuple(_patterns(flow))

    def read(self, text: str) -> Heard | None:
        """Return the phrase that the text is, or None."""
        words = _NOT_A_WORD.sub(" ", text.lower()).strip() + " "
        for name, pattern in self._patterns:
            if match := pattern.fullmatch(words):
                found = {slot: value for slot, value in match.groupdict().items() if value is not None}
                return Heard(name, found)
        return None


def _patterns(flow: Flow) -> list[tuple[str, re.Pattern[str]]]:
    values: dict[str, list[str]] = {slot: list(words) for slot, words in flow.slots.items()}
    return [
        (name, re.compile(to_regex(parse_phrase(text), values)))
        for name, texts in flow.phrases.items()
        for text in texts
    ]


def to_grammar(flow: Flow) -> str:
    """Write all phrases of a flow as one JSGF grammar."""
    phrases = [to_jsgf(parse_phrase(text)) for texts in flow.phrases.values() for text in texts]
    slots = [f"<slot_{name}> = {' | '.join(words)};" for name, words in flow.slots.items()]
    said = f"public <phrase> = {' | '.join(phrases)};"
    return "\n".join(["#JSGF V1.0;", "grammar flow;", said, *slots, ""])


def meaning(flow: Flow, slots: Mapping[str, str]) -> dict[str, Value]:
    """Turn the words in slots into the values that the flow gives them."""
    return {name: flow.slots[name][words] for name, words in slots.items()}
