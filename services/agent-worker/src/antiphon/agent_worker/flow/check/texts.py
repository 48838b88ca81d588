"""Check the texts of a flow: each variable has a value or a default."""

import re
from collections.abc import Collection, Iterator
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from antiphon.agent_worker.flow.check.catalog import Catalog, Fault
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Part, Path
from antiphon.agent_worker.flow.suggest import did_you_mean
from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders
from antiphon.agent_worker.flow.variables import CLOCK, GIVEN

TEXTS = frozenset({"say", "to", "when", "apology", "on_failure", "on_limit", "on_silence"})
SPOKEN = frozenset({"greeting", "say", "fallback", "apology", "on_failure", "on_limit", "on_silence"})
_DOUBLED = re.compile(
    r"(?<!\{)\{\{\s*([A-Za-z_]\w*(?:\.\w+)*)\s*\}\}(?!\})"
)  # as other platforms write a variable
ELSEWHERE = frozenset({"script", "tools", "expect"})  # where texts have other variables


def check_texts(flow: Flow, catalog: Catalog) -> Iterator[Fault]:
    """Yield what is wrong with the texts outside of scripts and tools."""
    del catalog
    known = {*flow.variables, *CLOCK}
    results = known | {output for tool in flow.tools.values() for output in tool.outputs} | flow.slots.keys()
    for path, text in _texts((), flow):
        yield from check_text(path, text, known)
    for name, agent in flow.agents.items():  # an agent that takes over knows what was said before
        path = ("agents", name, "instructions")
        yield from check_text(path, agent.instructions, known if name == flow.first else results)
        if agent.greeting is not None:
            path = ("agents", name, "greeting")
            yield from check_text(path, agent.greeting, known)
    yield from _time_zone(flow)
    for name, variable in flow.variables.items():
        if variable.default is None and variable.required is None:
            yield ("variables", name), "needs a `default`, or `required: true`"


def check_text(path: Path, text: str, known: Collection[str], hint: str = "") -> Iterator[Fault]:
    """Yield the variables of a text that have no value."""
    try:
        used = placeholders(text)
    except InvalidTemplate as error:
        yield path, str(error)
        return
    for name in dict.fromkeys(_DOUBLED.findall(text)):
        if path[-1] in SPOKEN or name in known or name.startswith(GIVEN):
            yield (
                path,
                f"{{{{{name}}}}} is said as it is, with a brace: a variable is written {{{name}}}",
            )
    for name in used:
        if name in known:
            continue
        if name.startswith(GIVEN):
            yield (
                path,
                f"{{{name}}} has no default: add `variables: {{{name}: …}}`{did_you_mean(name, known)}",
            )
        else:
            yield path, f"{{{name}}} has no value here{hint}{did_you_mean(name, known)}"


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    """Yield the texts of a part, and of the parts in it."""
    named = value if isinstance(value, Part) else value.items() if isinstance(value, dict) else ()
    for name, inner in named:
        place = (*path, name)
        if isinstance(inner, str) and name in TEXTS:
            yield place, inner
        elif place[-1] not in ELSEWHERE:
            yield from _texts(place, inner)


def _time_zone(flow: Flow) -> Iterator[Fault]:
    if "{" in flow.time_zone:
        yield from check_text(("time_zone",), flow.time_zone, flow.variables)
    elif not _is_time_zone(flow.time_zone):
        suggestion = did_you_mean(flow.time_zone, available_timezones())
        yield ("time_zone",), f"unknown time zone {flow.time_zone!r}{suggestion}"


def _is_time_zone(name: str) -> bool:
    """Look one zone up: to list all takes as long as the other checks together, at every call."""
    try:
        return ZoneInfo(name).key not in ("", "posixrules") and not name.startswith(("posix/", "right/"))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Europe` is a folder
        return False
