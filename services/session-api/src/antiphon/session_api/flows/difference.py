"""The difference between two sources, as a unified text; the time for it is bounded."""

import re
from difflib import unified_diff

from msgspec import Struct

COMPARED_LINES = 1_000  # of each side; of more, those in between are shown as replaced, which is quick
CONTEXT = 3  # lines before and after

_hunk = re.compile(r"^@@ -(\d+)(,\d+)? \+(\d+)(,\d+)? @@$")


class FlowDifference(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The difference between two revisions; `diff` is a unified text, empty when they are the same."""

    flow_id: str
    from_: int
    to: int
    diff: str


def difference(old: str, new: str, old_name: str, new_name: str) -> str:
    """Return the unified difference of two texts; empty when they are the same."""
    before, after = old.splitlines(), new.splitlines()
    if before == after:
        return "" if old == new else f"--- {old_name}\n+++ {new_name}\n\\ The ends of lines differ\n"
    start = _same(before, after)
    end = _same(before[start:][::-1], after[start:][::-1])
    first = max(0, start - CONTEXT)
    tail = min(end, CONTEXT)
    one = before[first : len(before) - end + tail]
    other = after[first : len(after) - end + tail]
    if max(len(one), len(other)) <= COMPARED_LINES:
        lines = list(unified_diff(one, other, old_name, new_name, lineterm="", n=CONTEXT))
    else:
        head, rest = one[: start - first], one[len(one) - tail :]
        lines = [
            f"--- {old_name}",
            f"+++ {new_name}",
            f"@@ -1,{len(one)} +1,{len(other)} @@",
            *(f" {line}" for line in head),
            *(f"-{line}" for line in one[len(head) : len(one) - tail]),
            *(f"+{line}" for line in other[len(head) : len(other) - tail]),
            *(f" {line}" for line in rest),
        ]
    # the first two lines are the names
    return "\n".join([*lines[:2], *(_moved(line, first) for line in lines[2:]), ""])


def _moved(line: str, by: int) -> str:
    """Return a line with the numbers of the whole texts, if it is the head of a hunk."""
    found = _hunk.match(line)
    if found is None:
        return line
    old, old_size, new, new_size = found.groups(default="")
    return f"@@ -{int(old) + by}{old_size} +{int(new) + by}{new_size} @@"


def _same(one: list[str], other: list[str]) -> int:
    """Return how many lines two texts have in common at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
