"""What the table of providers says of one provider; a package adds its own by an entry point."""

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from livekit.agents import vad

from antiphon.agent_worker.flow.bound import BoundFlow

Kind = Literal["vad", "stt", "llm", "tts", "realtime"]
Schema = Mapping[str, Any]  # the JSON Schema of an option


class ProviderProblem(ValueError):
    """A provider cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses a provider: an agent of a flow, in a session. `shared` is what the entry's `load` returned."""

    bound: BoundFlow
    agent: str
    detector: vad.VAD | None = None
    shared: Any = None


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """One provider of one kind.

    `factory` is `module:Class` of a LiveKit plugin, or a callable; its keyword arguments are the options of
    the provider, except those in `reserved`. The module is imported when a flow first uses the provider.
    """

    kind: Kind
    name: str
    factory: str | Callable[..., Any]
    summary: str
    example: str  # a `voice:` block that works
    key: str | None = None  # the environment variable of the API key, if the provider needs one
    key_option: str = "api_key"
    secrets: frozenset[str] = frozenset()  # more options that only a secret may fill
    reserved: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of options that a flow does not give
    language: Literal["full", "short"] | None = None  # the form of its option `language`: de-DE or de
    options: Mapping[str, Schema] | None = None  # None: read from the signature of `factory`
    takes_use: bool = False  # the factory also takes `use`, a Use
    per_agent: bool = False  # each agent has its own object
    load: str | Callable[[], Any] | None = None  # makes what all calls of a process share; may block
    vocabulary: Callable[[], Collection[str]] | None = None  # stt: the words it knows; None: any word
    plugin: str | None = None  # the module of the LiveKit plugin; by default that of `factory`
    preload: str | None = None  # another module for LiveKit's fork server: job processes share what it loads

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that are imported late, on the main thread."""
        own = self.factory.partition(":")[0] if isinstance(self.factory, str) else None
        return tuple(module for module in (self.plugin or own,) if module is not None)

    @property
    def place(self) -> str:
        """The kind and the name, as `stt deepgram`."""
        return f"{self.kind} {self.name}"


def import_plugin(entry: ProviderEntry) -> None:
    """Import the plugin of a provider: on the main thread, as LiveKit demands. Raises ProviderProblem."""
    try:
        for module in entry.modules:
            importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # RuntimeError: LiveKit, off the main thread
        raise ProviderProblem(f"{entry.place} cannot be imported: {error}") from error


def resolve(reference: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return what `module:name` refers to, or a callable itself. Raises ProviderProblem."""
    if not isinstance(reference, str):
        return reference
    module, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, RuntimeError) as error:  # RuntimeError: LiveKit, off the main thread
        raise ProviderProblem(f"{reference} cannot be imported: {error}") from error
    if not callable(found):
        raise ProviderProblem(f"{reference} is not callable")
    return found  # type: ignore[no-any-return]
