"""The providers that a flow can name, by kind and name: the built-in ones, and those of other packages."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from livekit.agents import llm

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.voice import KINDS, Provider
from antiphon.agent_worker.providers import options
from antiphon.agent_worker.providers.entry import ProviderEntry, ProviderProblem
from antiphon.agent_worker.providers.espeak import import_espeak
from antiphon.agent_worker.providers.extensions import (
    FailedExtension,
    installed_extensions,
    load_extensions,
)
from antiphon.agent_worker.providers.offline import OFFLINE
from antiphon.agent_worker.providers.openai_deepgram import plugin_entries
from antiphon.agent_worker.providers.sphinx import load_library

LlmFactory = Callable[[BoundFlow, str], llm.LLM[Any]]  # the flow, and the name of one of its agents


@dataclass(frozen=True, slots=True)
class Providers:
    """All providers, and the extensions that were left out."""

    entries: Mapping[tuple[str, str], ProviderEntry]  # by kind and name
    failed: tuple[FailedExtension, ...] = ()

    def names(self) -> Mapping[str, Collection[str]]:
        """Return the names by kind."""
        return {kind: [name for of, name in self.entries if of == kind] for kind in KINDS}

    def vocabularies(self) -> Mapping[str, Callable[[], Collection[str]]]:
        """Return the vocabularies of recognisers that do not accept any word."""
        return {
            name: entry.vocabulary
            for (kind, name), entry in self.entries.items()
            if kind == "stt" and entry.vocabulary is not None
        }

    def find(self, kind: str, name: str) -> ProviderEntry:
        """Return a provider. Raises ProviderProblem when there is none."""
        try:
            return self.entries[kind, name]
        except KeyError:
            raise ProviderProblem(f"there is no {kind} provider {name!r}{self._left_out()}") from None

    def option_problems(self, kind: str, provider: Provider) -> Iterator[tuple[str, str]]:
        """Yield the options that a provider does not take, with the reason; `` stands for the provider."""
        yield from options.problems(self.entries[kind, provider.use], provider)

    def _left_out(self) -> str:
        return "".join(f"; {failed}" for failed in self.failed)


def load_providers(points: Iterable[Any] | None = None) -> Providers:
    """Return the table: built-in providers and those of entry points, by default of all packages."""
    builtin: dict[tuple[str, str], ProviderEntry] = {
        (entry.kind, entry.name): entry for entry in (*OFFLINE, *plugin_entries())
    }
    more, failed = load_extensions(installed_extensions() if points is None else points, builtin)
    return Providers({**builtin, **{(entry.kind, entry.name): entry for entry in more}}, tuple(failed))


PROVIDERS = load_providers()


def check_installed() -> None:
    """Raise ImportError when a library is missing that has no wheel for every platform, or is unusable."""
    load_library()
    import_espeak()
