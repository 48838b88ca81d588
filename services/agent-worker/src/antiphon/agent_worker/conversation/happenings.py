"""What happens in a conversation in text, in the order in which the caller and the log see it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Said:
    """An agent said something."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A tool was called; `result` is its output, or why it failed."""

    tool: str
    arguments: Mapping[str, Any]
    result: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class HandedOff:
    """Another agent has taken over."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call has ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong that the caller does not hear, such as a model that does not answer."""

    reason: str


Happening: TypeAlias = Said | Called | HandedOff | Ended | Failed


def told(happening: Happening) -> str:
    """Return a happening as a line: `book_table {"day": "today"} → {"reference": "T1"}`."""
    match happening:
        case Said():
            return happening.text
        case Called():
            arguments = json.dumps(dict(happening.arguments), ensure_ascii=False)
            result = f"failed: {happening.result}" if happening.failed else happening.result
            return f"{happening.tool} {arguments}" + (f" → {result}" if result else "")
        case HandedOff():
            return f"{happening.source} → {happening.target}"
        case Ended() | Failed():
            return happening.reason
