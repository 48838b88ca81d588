"""The variables of a session: what it was given, with the defaults of the flow, and the local time."""

import json
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.template import render

CLOCK = ("now.date", "now.time", "now.weekday")
GIVEN = ("metadata.", "variables.")
LONGEST_VALUE = 2_000  # characters


class MissingVariable(Exception):
    """The session has no value that its flow requires."""


class Variables(Mapping[str, Any]):
    """The variables of one session, by name as texts use them.

    `given` is the `metadata` and the `variables` of the session, `now` the clock. Raises MissingVariable.
    """

    def __init__(self, flow: Flow, given: Mapping[str, Any], now: Callable[[], datetime]) -> None:
        self._values: dict[str, str] = {}
        for name, variable in flow.variables.items():
            value = _found(given, name)
            if value is None and variable.required:
                raise MissingVariable(f"the session has no {name}, which the flow {flow.id} requires")
            self._values[name] = _as_text(variable.default if value is None else value)
        self._now = now
        self._zone = _zone(render(flow.time_zone, self._values))

    def __getitem__(self, name: str) -> Any:
        if name in CLOCK:
            local = self._now().astimezone(self._zone)
            return {"now.date": f"{local:%Y-%m-%d}", "now.time": f"{local:%H:%M}"}.get(name, f"{local:%A}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._values, *CLOCK))

    def __len__(self) -> int:
        return len(self._values) + len(CLOCK)

    def render(self, text: str, values: Mapping[str, Any] | None = None) -> str:
        """Return a text with these variables and other values. Raises KeyError for one without a value."""
        return render(text, ChainMap(dict(values or {}), self))  # type: ignore[arg-type]


def _found(given: Mapping[str, Any], name: str) -> Any:
    value: Any = given
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:LONGEST_VALUE]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # from the metadata of a session: no reason to refuse the call
        return ZoneInfo("UTC")


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
