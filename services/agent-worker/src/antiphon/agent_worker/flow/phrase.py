"""The little language of phrases: `[i would like to] book a table (for | of) {party_size}`.

Words, `[optional parts]`, `(alternatives | in brackets)`, and `{slots}`. One phrase has two readings: a JSGF
rule for the recogniser and a regular expression that finds the slots in what was recognised.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

_TOKEN = re.compile(r"\s*(?:(?P<word>[a-z][a-z']*)|\{(?P<slot>[a-z][a-z0-9_]*)\}|(?P<mark>[\[\]()|]))")


class InvalidPhrase(ValueError):
    """The text is not a phrase."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, said as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one of the slot's values."""

    name: str


@dataclass(frozen=True, slots=True)
class Optional:
    """A part that may be left out."""

    part: "Choice"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences."""

    options: tuple[tuple["Part", ...], ...]


Part = Word | Slot | Optional | Choice


def parse_phrase(text: str) -> Choice:
    """Parse one phrase. Raises InvalidPhrase."""
    tokens = _tokens(text)
    phrase, rest = _parse_choice(tokens, 0, closing="")
    if rest != len(tokens):
        raise InvalidPhrase(f"{tokens[rest][1]!r} closes nothing")
    slots = [part.name for part in walk(phrase) if isinstance(part, Slot)]
    if len(slots) != len(set(slots)):
        raise InvalidPhrase("a slot may stand only once in a phrase; write two phrases")
    if _may_be_empty(phrase):
        raise InvalidPhrase("every word is optional, so silence would fit it")
    return phrase


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None or match.lastgroup is None:
            left = stripped[position:].strip()
            raise InvalidPhrase(f"{left!r} is not words in lower case, [..], (..|..) or a {{slot}}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


def _parse_choice(tokens: list[tuple[str, str]], at: int, *, closing: str) -> tuple[Choice, int]:
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
            options.append(_whole(option))
            option = []
        else:
            at = _parse_group(tokens, at, value, option)
    options.append(_whole(option))
    if closing and (at == len(tokens) or tokens[at][1] != closing):
        raise InvalidPhrase(f"a {closing!r} is missing")
    return Choice(tuple(options)), at


def _parse_group(tokens: list[tuple[str, str]], at: int, opening: str, option: list[Part]) -> int:
    closing = {"[": "]", "(": ")"}[opening]
    inner, at = _parse_choice(tokens, at, closing=closing)
    option.append(Optional(inner) if opening == "[" else inner)
    return at + 1


def _whole(option: list[Part]) -> tuple[Part, ...]:
    if not option:
        raise InvalidPhrase("an alternative is empty")
    return tuple(option)


def _may_be_empty(part: Part) -> bool:
    if isinstance(part, Choice):
        return any(all(map(_may_be_empty, option)) for option in part.options)
    return isinstance(part, Optional)


def walk(part: Part) -> Iterator[Part]:
    """Yield a part and all parts within it."""
    yield part
    if isinstance(part, Optional):
        yield from walk(part.part)
    elif isinstance(part, Choice):
        for child in chain.from_iterable(part.options):
            yield from walk(child)


def to_jsgf(part: Part) -> str:
    """Write a part as the right side of a JSGF rule; slot NAME is the rule <slot_NAME>."""
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
    """Write a part as a regular expression over words that each end with one space."""
    match part:
        case Word(text):
            return f"{text} "
        case Slot(name):
            longest_first = sorted(values[name], key=len, reverse=True)
            return f"(?P<{name}>{'|'.join(map(re.escape, longest_first))}) "
        case Optional(inner):
            return f"(?:{to_regex(inner, values)})?"
        case Choice(options):
            readings = ("".join(to_regex(part, values) for part in option) for option in options)
            return f"(?:{'|'.join(readings)})"


def sentences(part: Part, values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield every sentence that a part can be."""
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
                yield from _joined(option, values)


def _joined(option: Sequence[Part], values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if not option:
        yield ""
        return
    for first in sentences(option[0], values):
        for rest in _joined(option[1:], values):
            yield " ".join(words for words in (first, rest) if words)
