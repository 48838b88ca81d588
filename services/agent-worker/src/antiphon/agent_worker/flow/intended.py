"""What a flow with errors was meant to be, so that one mistake does not hide the others."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ErrorDetails

from antiphon.agent_worker.flow.mistakes import allowed_keys, place_of
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.suggest import nearest
from antiphon.agent_worker.flow.traps import as_boolean

# parts that no other part names: without one that is wrong, the rest means the same
_SETTINGS = frozenset({"language", "time_zone", "turns", "limits", "ending", "voicemail"})


@dataclass(slots=True)
class Intended:
    """The data of a flow as it was meant; `renamed` has the keys that were written otherwise."""

    data: Any
    renamed: dict[Path, Path] = field(default_factory=dict)
    left_out: set[Path] = field(default_factory=set)

    def given(self, path: Path) -> Path | None:
        """Return the place in the file, None if what is there has been reported."""
        if path in self.left_out:
            return None
        for meant, written in self.renamed.items():
            if path[: len(meant)] == meant:
                return (*written, *path[len(meant) :])
        return path


def what_was_meant(data: Any, errors: Sequence[ErrorDetails]) -> Intended | None:
    """Return the data with its mistakes mended, None if it is not clear what was meant."""
    intended = Intended(deepcopy(data))
    return intended if all(_mended(intended, details) for details in errors) else None


def _mended(intended: Intended, details: ErrorDetails) -> bool:
    path = place_of(details)
    holder = intended.data
    for step in path[:-1]:
        try:
            holder = holder[step]
        except (LookupError, TypeError):  # it was a part of another mistake
            return False
    if not path or not isinstance(holder, dict) or path[-1] not in holder:
        return False
    key = str(path[-1])
    if details["type"] == "extra_forbidden":
        meant = nearest(key, allowed_keys(path[:-1]))
        value = holder.pop(key)
        if meant is not None and meant not in holder:
            holder[meant] = value
            intended.renamed[*path[:-1], meant] = path
        return True
    boolean = as_boolean(holder[key]) if details["type"] in ("bool_type", "literal_error") else None
    if boolean:
        holder[key] = True
    elif boolean is False or path[0] in _SETTINGS:
        del holder[key]  # what is false is so without the key
        intended.left_out.add(path)
    else:
        return False
    return True
