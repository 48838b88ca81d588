"""Events that do not fit the log: they are cut, so that the rest of them is not lost.

The broker's limit for a message with its headers is 1 MiB by default, and that of the log for nesting is 100
levels. An event above them would be set aside, such as the call of a tool that returns a whole file.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.contracts.event import Event
from antiphon.contracts.validate import MAX_DEPTH, is_nested_deeper

EVENT_BYTES = 960 * 1024  # of an event as JSON, with its envelope
TEXT_BYTES = 256 * 1024  # of each text as JSON; `turn.saved` has three
LEVELS = 50  # of nesting within a field
TOO_DEEP = f"[cut: nested deeper than {LEVELS} levels]"


def fits(sealed: bytes) -> bool:
    """Return whether an event with its envelope is small and flat enough for the log."""
    if len(sealed) > EVENT_BYTES:
        return False
    if sealed.count(b"[") + sealed.count(b"{") <= MAX_DEPTH:  # no need to decode it
        return True
    return not is_nested_deeper(sealed.decode(), MAX_DEPTH)


def cut(event: Event) -> Event:
    """Return the event with texts of at most 256 KiB, and fields of at most 50 levels.

    The end of a cut text says how long it was, and a text says where levels were cut.
    """
    return msgspec.structs.replace(
        event, **{name: _cut(value) for name, value in msgspec.structs.asdict(event).items()}
    )


def _cut(value: Any, levels: int = LEVELS) -> Any:
    if isinstance(value, str):
        return _cut_text(value)
    if isinstance(value, Mapping | list) and levels == 0:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return {name: _cut(inner, levels - 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, levels - 1) for inner in value]
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
