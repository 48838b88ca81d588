"""Print docs/reference/settings.md, from the classes: `python -m tools.docs.settings [--check FILE]`.

The prose is in settings.txt. A line `<!-- settings: NAME … -->` of it becomes the table of classes, of all
classes of a package, or of a group of variables that are read elsewhere. A class that it does not name gets a
section of its own at the end.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.docs.generated import print_or_check
from tools.docs.other_variables import OTHERS
from tools.docs.variable import SERVICES, Variable, described, fields_of, package_of

from antiphon.chassis.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference"
TEMPLATE = Path(__file__).with_suffix(".txt")
COMMAND = "python -m tools.docs.settings > docs/reference/settings.md"
MARK = re.compile(r"^<!-- settings: (.+) -->$", re.MULTILINE)
FROM_ROOT = re.compile(r"\]\((?![a-z]+:|#)([^)#]+)")


def sources() -> list[type[Any]]:
    """Return every class of settings that declares a variable, chassis first."""
    modules = sorted(
        str(path.relative_to(path.parents[2]).with_suffix("")).replace("/", ".")
        for pattern in ("*/src/antiphon/*/settings.py", "services/*/src/antiphon/*/settings.py")
        for path in ROOT.glob(pattern)
    )
    loaded = [import_module(name) for name in modules]
    plain = [found for module in loaded for found in vars(module).values() if described(found)]
    classes = [*dict.fromkeys([*_subclasses(Settings), *plain])]
    return [found for found in classes if found.__module__.startswith("antiphon.") and fields_of(found)]


def variables(classes: Iterable[type[Any]]) -> list[Variable]:
    """Return the variables that classes declare, with those that read them."""
    return [field for owner in classes for field in fields_of(owner)]


def page(template: str, classes: list[type[Any]]) -> str:
    """Return the page. Raises ValueError for a mark that names nothing."""
    named = {name for mark in MARK.findall(template) for name in mark.split()}
    placed: set[type[Any]] = set()

    def table(match: re.Match[str]) -> str:
        rows: list[Variable] = []
        for name in match[1].split():
            own = [found for found in classes if _belongs(found, name, named)]
            if not own and name not in OTHERS:
                raise ValueError(f"{TEMPLATE.name} names {name}, which is no class, package or group")
            placed.update(own)
            rows += [*variables(own), *OTHERS.get(name, ())]
        return "\n".join(_table(rows, alone="antiphon." in match[1]))

    text = MARK.sub(table, template)
    for rest in classes:
        if rest not in placed:
            heading = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", rest.__name__.removesuffix("Settings"))
            about = (rest.__doc__ or "").partition("\n")[0]
            text += f"\n## {heading}\n\n{about}\n\n" + "\n".join(_table(variables([rest]))) + "\n"
    return f"<!-- generated: {COMMAND} -->\n{text}"


def _table(rows: list[Variable], *, alone: bool = False) -> Iterator[str]:
    """Yield the lines of a table; `alone`: of a section that is named as who reads it."""
    readers = [_readers(row) for row in rows]
    shown = len(set(readers)) > 1
    if not shown and not alone:
        yield f"Read by {readers[0]}."
        yield ""
    yield f"| variable | default | allowed |{' read by |' if shown else ''} what it is |"
    yield f"|---|---|---|{'---|' if shown else ''}---|"
    for row, reader in zip(rows, readers, strict=True):
        names = ", ".join(f"`{name}`" for name in row.names)
        allowed = "secret; " * row.secret + row.allowed
        by = f" {reader} |" if shown else ""
        yield f"| {names} | {row.default} | {allowed} |{by} {_linked(row.description)} |"


def _readers(row: Variable) -> str:
    named = set(row.readers)
    if named >= SERVICES:
        named = named - SERVICES | {"every service"}
    return ", ".join(sorted(named, key=lambda name: (name != "every service", name)))


def _belongs(owner: type[Any], name: str, named: set[str]) -> bool:
    """Tell whether a class is in a table: by its name, or by its package if no mark has its name."""
    return name == (owner.__name__ if owner.__name__ in named else package_of(owner))


def _linked(description: str) -> str:
    """Return a description with its links, which start at the root, as the page needs them."""
    in_a_cell = description.replace("|", "\\|")
    return FROM_ROOT.sub(lambda match: f"]({os.path.relpath(ROOT / match[1], PAGE)}", in_a_cell)


def _subclasses(owner: type[Any]) -> Iterator[type[Any]]:
    for found in owner.__subclasses__():
        yield found
        yield from _subclasses(found)


def current() -> str:
    """Return the page of this checkout."""
    return page(TEMPLATE.read_text(), sources())


if __name__ == "__main__":
    sys.exit(print_or_check("tools.docs.settings", current(), "the settings"))
