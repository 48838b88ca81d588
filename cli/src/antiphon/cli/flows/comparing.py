"""`antiphon flow diff`: the difference between two flows, part by part."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.agent_worker.conversation.flow_file import FlowPath, InvalidFlow, dotted, read_document
from antiphon.cli.api import open_api
from antiphon.cli.errors import StackError
from antiphon.cli.screen import err, out, shown

REVISION = re.compile(r"([a-z][a-z0-9-]{0,62})@([1-9][0-9]{0,8})")
LONGEST_VALUE = 200  # characters


@dataclass(frozen=True, slots=True)
class Change:
    """A part that was added (`before` is None), removed (`after` is None), or changed."""

    path: FlowPath
    before: str | None
    after: str | None


async def print_difference(before: str, after: str) -> None:
    """Print what differs between two flows: files, or revisions of the deployment."""
    first, second = await _content(before), await _content(after)
    found = list(changes((), first, second))
    for change in found:
        for line in lines(change):
            out.print(line)
    err.print(
        Text(
            "no difference" if not found else f"{len(found)} {'part' if len(found) == 1 else 'parts'}",
            style="dim",
        )
    )


async def _content(source: str) -> Any:
    """Return the content of a flow, whether or not it passes the checks. Raises StackError."""
    revision = REVISION.fullmatch(source)
    is_file = Path(source).exists()  # noqa: ASYNC240 - of a file on this machine
    if revision is not None and not is_file:
        flow_id, number = revision.groups()
        async with open_api() as api:
            answer = await api.request("GET", f"/v1/flows/{flow_id}/revisions/{number}")
        return _read(answer["source"], source)
    if not is_file:
        raise StackError(f"{shown(source)} is neither a file nor FLOW@REVISION, as booking@3")
    return _read(Path(source), source)


def _read(given: Path | str, name: str) -> Any:
    try:
        return read_document(given, name=name).data
    except InvalidFlow as error:
        raise StackError(str(error)) from error


def changes(path: FlowPath, before: Any, after: Any) -> Iterator[Change]:
    """Yield what differs between two values, at the smallest parts that differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            place = (*path, str(key))
            if key not in after:
                yield Change(place, _value(before[key]), None)
            elif key not in before:
                yield Change(place, None, _value(after[key]))
            else:
                yield from changes(place, before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list):
        yield from _items(path, before, after)
    elif before != after or type(before) is not type(after):
        yield Change(path, _value(before), _value(after))


def _items(path: FlowPath, before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    """Yield what differs between two lists; an item that is inserted does not change those after it."""
    old, new = [_value(item) for item in before], [_value(item) for item in after]
    for kind, begin, end, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        both = min(end - begin, stop - start)
        for offset in range(both):
            yield from changes((*path, start + offset), before[begin + offset], after[start + offset])
        for index in range(begin + both, end):
            yield Change((*path, index), old[index], None)
        for index in range(start + both, stop):
            yield Change((*path, index), None, new[index])


def lines(change: Change) -> Iterator[Text]:
    """Yield a change as lines: the place, and what was and is there."""
    mark, style = (
        ("+", "green") if change.before is None else ("-", "red") if change.after is None else ("~", "yellow")
    )
    yield Text(shown(f"{mark} {dotted(change.path) or 'the flow'}"), style=style)
    if change.before is not None:
        yield Text(shown(f"    - {_cut(change.before)}"), style="red")
    if change.after is not None:
        yield Text(shown(f"    + {_cut(change.after)}"), style="green")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
