"""A flow bound to one session: its texts have the session's variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog

from antiphon.agent_worker.flow.check import Catalog
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.template import placeholders
from antiphon.agent_worker.flow.variables import LONGEST_VALUE, Variables, utc_now

log = structlog.get_logger(__name__)

Schema = Mapping[str, Any]


class OpenTools(Protocol):
    """What builds the tools of a session: it has their connections."""

    def build(self, name: str) -> Any:
        """Return a LiveKit tool, or a toolset for an MCP server. Raises ToolProblem."""

    def stop(self) -> None:
        """Stop the calls that are running: a session would close only after them."""

    def stop_running(self, why: str) -> None:
        """Stop the calls that are running, and say why: another agent would take over only after them."""


@dataclass(frozen=True, slots=True)
class BoundFlow:
    """A flow, the variables of its session, and the JSON Schema of the arguments of its tools, by name."""

    flow: Flow
    variables: Variables
    parameters: Mapping[str, Schema | None]
    tools: OpenTools | None = None  # None outside of a session

    def text(self, template: str, values: Mapping[str, Any] | None = None) -> str:
        """Return a text of the flow with the variables, and other values. Raises KeyError."""
        return self.variables.render(template, values)

    def spoken(
        self, template: str, values: Mapping[str, Any], *, missing: str = "", quiet: bool = False
    ) -> str:
        """Return a text with values that only the call gives; one that is missing is left out, and logged."""
        known = {name: str(value)[:LONGEST_VALUE] for name, value in values.items() if value is not None}
        absent = [name for name in placeholders(template) if name not in known and name not in self.variables]
        if absent and not quiet:
            log.warning("flow.value_missing", flow=self.flow.id, names=absent)
        return self.text(template, {**dict.fromkeys(absent, missing), **known})

    def greeting_of(self, agent: str) -> str | None:
        """Return the greeting of an agent."""
        greeting = self.flow.agents[agent].greeting
        return None if greeting is None else self.text(greeting)

    def arguments_of(self, tool: str) -> list[str]:
        """Return the names of a tool's arguments."""
        return list((self.parameters[tool] or {}).get("properties", {}))


def bind(
    flow: Flow,
    catalog: Catalog,
    *,
    metadata: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    now: Callable[[], datetime] = utc_now,
) -> BoundFlow:
    """Bind a checked flow to the metadata and variables of a session.

    Raises MissingVariable and ToolProblem.
    """
    parameters = {name: catalog.parameters(definition) for name, definition in flow.tools.items()}
    return BoundFlow(
        flow, Variables(flow, {"metadata": metadata or {}, "variables": variables or {}}, now), parameters
    )
