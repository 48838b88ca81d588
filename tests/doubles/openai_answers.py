"""The answers that a language-model double gives, in the order of a script.

`chat.answers.add(say("Hello."), call("book_table", time="eight"), say("Done."))`
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.doubles.server import Refused


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is the JSON text that the model writes, which may be wrong."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    prompt: int = 25
    cached: int = 0
    completion: int = 7

    @property
    def total(self) -> int:
        """All tokens."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a text, tool calls, or both. With `failed`, an error's code, it fails after them."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    failed: str = ""


def say(text: str) -> Answer:
    """Return an answer of text."""
    return Answer(text)


def call(tool: str, /, **arguments: Any) -> Answer:
    """Return an answer that calls one tool."""
    return Answer(calls=(Call(tool, json.dumps(arguments)),))


def calls(*tools: tuple[str, dict[str, Any]], text: str = "") -> Answer:
    """Return an answer that calls several tools at once, after some text."""
    return Answer(text, tuple(Call(name, json.dumps(arguments)) for name, arguments in tools))


class Answers:
    """The script: answers in order, then `otherwise`. Without either the request is refused with 500."""

    def __init__(self) -> None:
        self.otherwise: Answer | None = None
        self._next: deque[Answer] = deque()
        self._calls = 0

    def add(self, *answers: Answer) -> None:
        """Add answers to the end of the script."""
        self._next.extend(answers)

    def take(self, *, keep: bool = False) -> Answer:
        """Return the next answer, whose calls get ids; `keep` leaves it in the script."""
        answer = self._next[0] if self._next else self.otherwise
        if self._next and not keep:
            self._next.popleft()
        if answer is None:
            raise Refused(500, "the script of the double has no more answers")
        return replace(answer, calls=tuple(self._with_id(one) for one in answer.calls))

    def _with_id(self, one: Call) -> Call:
        self._calls += 1
        return one if one.id else replace(one, id=f"call_{self._calls}")


def pieces_of(text: str, size: int | None = None) -> Iterator[str]:
    """Yield a text in the pieces in which a model streams it: words, or `size` characters."""
    if size is not None:
        yield from (text[start : start + size] for start in range(0, len(text), size))
        return
    words = text.split(" ")
    yield from (word if n == 0 else f" {word}" for n, word in enumerate(words) if text)
