"""The phrase language, `[i would like to] book a table (for | of) {party_size}`, and how a text is matched.

A phrase consists of words, `[optional parts]`, `(alternatives | in parentheses)` and `{slots}`. It is
rendered as a JSGF rule for the recogniser, and as a regular expression that finds the slots in a text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.script import Value

_TOKEN = re.compile(r"\s*(?:(?P<word>[a-z][a-z']*)|\{(?P<slot>[a-z][a-z0-9_]*)\}|(?P<mark>[\[\]()|]))")
_NOT_A_WORD = re.compile(r"[^a-z']+")
MAX_DEPTH = 20  # of groups in groups
MAX_TOKENS = 400  # of a phrase: what is done with it is recursive


class InvalidPhrase(ValueError):
    """The text is not a phrase."""


@dataclass(frozen=True, slots=True)
class Word:
    """A literal word."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A placeholder for one of a slot's values."""

    name: str


@dataclass(frozen=True, slots=True)
class Optional:
    """An optional part."""

    part: "Choice"


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice between sequences of parts."""

    options: tuple[tuple["Part", ...], ...]


Part = Word | Slot | Optional | Choice


def parse_phrase(text: str) -> Choice:
    """Parse one phrase. Raises InvalidPhrase."""
    tokens = _tokens(text)
    if len(tokens) > MAX_TOKENS:
        raise InvalidPhrase(f"has more than {MAX_TOKENS} words and brackets; write several phrases")
    phrase, rest = _parse_choice(tokens, 0, closing="", depth=0)
    if rest != len(tokens):
        raise InvalidPhrase(f"unmatched {tokens[rest][1]!r}")
    slots = [part.name for part in walk(phrase) if isinstance(part, Slot)]
    if len(slots) != len(set(slots)):
        raise InvalidPhrase("a slot may be used only once in a phrase; write two phrases")
    if _may_be_empty(phrase):
        raise InvalidPhrase("every word is optional, so silence would match it")
    return phrase


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None or match.lastgroup is None:
            left = stripped[position:].strip()
            raise InvalidPhrase(f"{left!r} is not lower-case words, [..], (..|..) or a {{slot}}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


def _parse_choice(tokens: list[tuple[str, str]], at: int, *, closing: str, depth: int) -> tuple[Choice, int]:
    if depth > MAX_DEPTH:
        raise InvalidPhrase(f"more than {MAX_DEPTH} brackets within brackets")
    options: list[tuple[Part, ...]] = []
    option: list[Part] = []
    while at < len(tokens) and tokens[at] not in (("mark", "]"), ("mark", ")")):
        kind, value = tokens[at]
        at += 1
        if kind == "word":
            option.append(Word(value))
        elif kind == "slot":
            option.append(Slot(value))
        elif value == "|":
            options.append(_not_empty(option))
            option = []
        else:
            at = _parse_group(tokens, at, value, option, depth)
    options.append(_not_empty(option))
    if closing and (at == len(tokens) or tokens[at][1] != closing):
        raise InvalidPhrase(f"missing {closing!r}")
    return Choice(tuple(options)), at


def _parse_group(tokens: list[tuple[str, str]], at: int, opening: str, option: list[Part], depth: int) -> int:
    closing = {"[": "]", "(": ")"}[opening]
    inner, at = _parse_choice(tokens, at, closing=closing, depth=depth + 1)
    option.append(Optional(inner) if opening == "[" else inner)
    return at + 1


def _not_empty(option: list[Part]) -> tuple[Part, ...]:
    if not option:
        raise InvalidPhrase("an alternative is empty")
    return tuple(option)


def _may_be_empty(part: Part) -> bool:
    if isinstance(part, Choice):
        return any(all(map(_may_be_empty, option)) for option in part.options)
    return isinstance(part, Optional)


def walk(part: Part) -> Iterator[Part]:
    """Yield a part and all its descendants."""
    yield part
    if isinstance(part, Optional):
        yield from walk(part.part)
    elif isinstance(part, Choice):
        for child in chain.from_iterable(part.options):
            yield from walk(child)


def to_jsgf(part: Part) -> str:
    """Return a part as the right side of a JSGF rule; slot NAME is the rule <slot_NAME>."""
    match part:
        case Word(text):
            return text
        case Slot(name):
            return f"<slot_{name}>"
        case Optional(inner):
            return f"[{to_jsgf(inner)}]"
        case Choice(options):
            return "(" + " | ".join(" ".join(map(to_jsgf, option)) for option in options) + ")"


def to_regex(part: Part, values: Mapping[str, Sequence[str]]) -> str:
    """Return a part as a regular expression over words that each end with one space."""
    match part:
        case Word(text):
            return f"{text} "
        case Slot(name):
            longest_first = sorted(values[name], key=len, reverse=True)
            return f"(?P<{name}>{'|'.join(map(re.escape, longest_first))}) "
        case Optional(inner):
            return f"(?:{to_regex(inner, values)})?"
        case Choice(options):
            patterns = ("".join(to_regex(part, values) for part in option) for option in options)
            return f"(?:{'|'.join(patterns)})"


def sentences(part: Part, values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield every sentence that a part matches."""
    match part:
        case Word(text):
            yield text
        case Slot(name):
            yield from values[name]
        case Optional(inner):
            yield ""
            yield from sentences(inner, values)
        case Choice(options):
            for option in options:
                yield from _sequences(option, values)


def _sequences(option: Sequence[Part], values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if not option:
        yield ""
        return
    for first in sentences(option[0], values):
        for rest in _sequences(option[1:], values):
            yield " ".join(words for words in (first, rest) if words)


@dataclass(frozen=True, slots=True)
class Match:
    """The phrase that a text matches, and the words in its slots."""

    phrase: str
    slots: Mapping[str, str]


class PhraseMatcher:
    """The phrases of a flow as patterns."""

    def __init__(self, flow: Flow) -> None:
        values = {slot: list(words) for slot, words in flow.slots.items()}
        self._patterns = [
            (name, re.compile(to_regex(parse_phrase(text), values)))
            for name, texts in flow.phrases.items()
            for text in texts
        ]

    def match(self, text: str) -> Match | None:
        """Return the phrase that matches the whole text, or None. Case and punctuation are ignored."""
        words = _NOT_A_WORD.sub(" ", text.lower()).strip() + " "
        for name, pattern in self._patterns:
            if match := pattern.fullmatch(words):
                slots = {slot: value for slot, value in match.groupdict().items() if value is not None}
                return Match(name, slots)
        return None


def to_grammar(flow: Flow) -> str:
    """Return all phrases of a flow as one JSGF grammar."""
    phrases = [to_jsgf(parse_phrase(text)) for texts in flow.phrases.values() for text in texts]
    slots = [f"<slot_{name}> = {' | '.join(words)};" for name, words in flow.slots.items()]
    public = f"public <phrase> = {' | '.join(phrases)};"
    return "\n".join(["#JSGF V1.0;", "grammar flow;", public, *slots, ""])


def slot_values(flow: Flow, slots: Mapping[str, str]) -> dict[str, Value]:
    """Return the values that the flow assigns to the words in slots."""
    values = flow.slots
    return {name: values[name][words] for name, words in slots.items()}
