"""Events that are larger than the broker accepts: their long texts are cut, so that the rest is not lost.

The broker's limit for a message with its headers is 1 MiB by default. An event above it would be set aside,
such as the call of a tool that returns a whole file, and the turn that quotes it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.contracts.event import Event

EVENT_BYTES = 960 * 1024  # of an event as JSON, with its envelope
TEXT_BYTES = 256 * 1024  # of each text as JSON; `turn.saved` has three


def cut(event: Event) -> Event:
    """Return the event with each text of at most 256 KiB; the end of a cut one says how long it was."""
    return msgspec.structs.replace(
        event, **{name: _cut(value) for name, value in msgspec.structs.asdict(event).items()}
    )


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return _cut_text(value)
    if isinstance(value, Mapping):
        return {name: _cut(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner) for inner in value]
    return value


def _cut_text(text: str) -> str:
    kept = text
    while (size := _size(kept)) > TEXT_BYTES:  # again if its characters differ much in size
        kept = kept[: len(kept) * TEXT_BYTES // size]
    return text if len(kept) == len(text) else f"{kept} [cut: {len(text):,} characters]"


def _size(text: str) -> int:
    if len(text) * 6 <= TEXT_BYTES:  # a control character, the longest one, has six bytes in JSON
        return 0
    return len(msgspec.json.encode(text.encode(errors="replace").decode()))
