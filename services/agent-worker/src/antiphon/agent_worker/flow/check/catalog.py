"""What a flow may use that is not in its file: providers, tools and secrets."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.voice import Provider

Fault = tuple[Path, str]  # where in the flow, and the reason
Vocabulary = Callable[[], Collection[str]]  # raises ImportError when the recogniser is not installed


class ToolProblem(ValueError):
    """A tool cannot be used as it is defined; the message says why."""


class Catalog(Protocol):
    """The providers, tools and secrets of this installation."""

    @property
    def names(self) -> Mapping[str, Collection[str]]:
        """The names of providers by kind."""

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The words that a recogniser knows; one without an entry accepts any."""

    def option_problems(self, kind: str, provider: Provider) -> Iterable[tuple[str, str]]:
        """Yield the options that a provider does not take, with the reason; `` stands for the provider."""

    def parameters(self, definition: ToolDefinition) -> Mapping[str, Any] | None:
        """Return the JSON Schema of a tool's arguments; None if only its server knows. Raises ToolProblem."""

    def has_secret(self, name: str) -> bool:
        """Return whether a secret is set."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A catalog made of its parts."""

    names: Mapping[str, Collection[str]]
    vocabularies: Mapping[str, Vocabulary]
    option_problems: Callable[[str, Provider], Iterable[tuple[str, str]]]
    parameters: Callable[[ToolDefinition], Mapping[str, Any] | None]
    has_secret: Callable[[str], bool]
