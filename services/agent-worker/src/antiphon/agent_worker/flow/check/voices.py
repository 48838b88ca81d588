"""Check the voices of a flow: providers and their options, fallbacks, secrets."""

from collections.abc import Iterator

from antiphon.agent_worker.flow.check.catalog import Catalog, Fault
from antiphon.agent_worker.flow.check.script import placed_rules
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.suggest import unknown
from antiphon.agent_worker.flow.voice import KINDS, Provider, Voice


def check_voices(flow: Flow, catalog: Catalog) -> Iterator[Fault]:
    """Yield what is wrong with the voices of a flow and of its agents."""
    yield from _providers(("voice",), flow.voice, catalog)
    for name, agent in flow.agents.items():
        if agent.voice is not None:
            yield from _providers(("agents", name, "voice"), agent.voice, catalog)
    yield from _complete(flow)
    yield from _forced(flow)


def _providers(path: Path, voice: Voice, catalog: Catalog) -> Iterator[Fault]:
    for kind in KINDS:
        provider: Provider | None = getattr(voice, kind)
        if provider is not None:
            yield from _provider((*path, kind), kind, provider, catalog)
            for index, fallback in enumerate(provider.fallbacks):
                place = (*path, kind, "fallbacks", index)
                yield from _provider(place, kind, fallback, catalog)
                if fallback.fallbacks:
                    yield (
                        (*place, "fallbacks"),
                        "a fallback has no fallbacks of its own: list all in one place",
                    )


def _provider(path: Path, kind: str, provider: Provider, catalog: Catalog) -> Iterator[Fault]:
    names = catalog.names.get(kind, ())
    if provider.use not in names:
        yield path, unknown(f"{kind} provider", provider.use, names)
        return
    for option, reason in catalog.option_problems(kind, provider):
        yield (*path, option) if option else path, reason


def _complete(flow: Flow) -> Iterator[Fault]:
    for name in flow.agents:
        voice = flow.voice_of(name)
        path: Path = ("voice",) if flow.agents[name].voice is None else ("agents", name, "voice")
        if voice.realtime is None:
            missing = [kind for kind in ("stt", "llm", "tts") if getattr(voice, kind) is None]
            if missing:
                reason = f"needs {' and '.join(f'`{kind}`' for kind in missing)}, or a `realtime` model"
                yield path, reason
                return
        offline = [provider for provider in (voice.stt, voice.llm) if provider and provider.use == "offline"]
        if offline and not flow.scripted:
            yield path, "the offline recogniser and model need rules, in `script`: they know nothing else"
            return
        if voice.stt is not None and voice.stt.use == "offline" and not flow.language.startswith("en"):
            yield ("language",), f"the offline recogniser knows English only, not {flow.language!r}"
            return


def _forced(flow: Flow) -> Iterator[Fault]:
    """Yield rules of agents whose model nobody can force to an answer."""
    realtime = [name for name in flow.agents if flow.voice_of(name).realtime is not None]
    if not realtime:
        return
    reason = (
        "the voice of {!r} is `realtime`, and no rule can force its answers: write this into its"
        " `instructions`, or give it `stt`, `llm` and `tts` in place of `realtime`"
    )
    if len(realtime) < len(flow.agents):
        reason += ", or move the rule to the `script` of another agent"
    for placed in placed_rules(flow):
        agent = placed.agent or realtime[0]
        if agent in realtime:
            yield placed.path, reason.format(agent)
