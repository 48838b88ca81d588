"""What calls of a job process share: imported plugins, voice detectors, recognisers.

A worker loads what the flows use before a call; what is missing is loaded when a call needs it.
"""

import json
import time
from collections.abc import Collection, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from livekit.agents import vad

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.voice import KINDS, OFFLINE, Provider, Voice
from antiphon.agent_worker.providers.entry import ProviderEntry, ProviderProblem, import_plugin, resolve
from antiphon.agent_worker.providers.options import arguments
from antiphon.agent_worker.providers.table import PROVIDERS, Providers

log = structlog.get_logger(__name__)

Named = tuple[str, str]  # the kind and the name of a provider
OFFLINE_PROVIDERS: Final = frozenset(
    {(kind, getattr(OFFLINE, kind).use) for kind in KINDS if getattr(OFFLINE, kind) is not None}
)
_LOADED = __name__  # the key in a job process's userdata


@dataclass(slots=True)
class Loaded:
    """The objects that calls share, by provider; voice detectors by their options too."""

    providers: Providers
    shared: dict[Named, Any] = field(default_factory=dict)
    detectors: dict[tuple[str, str], vad.VAD] = field(default_factory=dict)
    voices: Any = None  # of the session that runs in this process

    def share(self, entry: ProviderEntry) -> Any:
        """Return what the calls of a provider share; loads it the first time."""
        named = (entry.kind, entry.name)
        if named not in self.shared:
            started = time.perf_counter()
            import_plugin(entry)
            self.shared[named] = None if entry.load is None else resolve(entry.load)()
            log.debug("provider.loaded", provider=entry.place, seconds=time.perf_counter() - started)
        return self.shared[named]

    def detector(self, provider: Provider, language: str) -> vad.VAD:
        """Return a voice detector, the same for the same options. Raises ProviderProblem."""
        key = (provider.use, json.dumps(provider.options, sort_keys=True))
        if key not in self.detectors:
            entry = self.providers.find("vad", provider.use)
            self.share(entry)
            self.detectors[key] = resolve(entry.factory)(**arguments(entry, provider, language))
        return self.detectors[key]


def loaded(userdata: MutableMapping[str, Any]) -> Loaded:
    """Return what a process has loaded; at first, nothing."""
    found: Loaded = userdata.setdefault(_LOADED, Loaded(PROVIDERS))
    return found


def prewarm(userdata: MutableMapping[str, Any], providers: Collection[Named] = OFFLINE_PROVIDERS) -> None:
    """Load providers into a job process's userdata before it has a call; blocks for up to two seconds.

    One that cannot be loaded is left to the flow that uses it.
    """
    process = loaded(userdata)
    for kind, name in sorted(providers):
        try:
            entry = process.providers.find(kind, name)
            process.share(entry)
            if kind == "vad":
                process.detector(Provider(use=name), "en")
        except (ProviderProblem, ImportError) as problem:
            log.warning("provider.not_loaded", provider=f"{kind} {name}", reason=str(problem))


def fork_server_modules(providers: Collection[Named]) -> list[str]:
    """Return the modules that LiveKit's fork server imports, so that job processes share them."""
    found = {PROVIDERS.entries[named].preload for named in providers if named in PROVIDERS.entries}
    return sorted(module for module in found if module is not None)


def providers_of(flows: Iterable[Flow]) -> frozenset[Named]:
    """Return the providers that flows name, fallbacks included."""
    return frozenset(
        (kind, one.use)
        for flow in flows
        for agent in flow.agents
        for kind, one in providers_in(flow.voice_of(agent))
    )


def providers_in(voice: Voice) -> Iterable[tuple[str, Provider]]:
    """Yield the providers of a voice with their kind, fallbacks included."""
    for kind in KINDS:
        provider: Provider | None = getattr(voice, kind)
        if provider is not None:
            yield kind, provider
            yield from ((kind, fallback) for fallback in provider.fallbacks)


def import_plugins(flow: Flow) -> None:
    """Import the plugins of a flow that are not imported yet: on the main thread, as LiveKit demands.

    Raises ProviderProblem, which names the plugin.
    """
    for kind, name in sorted(providers_of([flow])):
        import_plugin(PROVIDERS.find(kind, name))
