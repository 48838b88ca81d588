"""The providers that a flow can name, by kind. A new provider is one entry in PROVIDERS."""

from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from livekit.agents import llm, stt, tts, vad

from antiphon.agent_worker.flow.check import ProviderCatalog
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.phrase import PhraseMatcher, to_grammar
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.espeak import import_espeak, load_engine
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.sphinx import Recogniser, known_words, load_library
from antiphon.agent_worker.providers.sphinx_stt import SphinxSTT

SttFactory = Callable[[Flow, vad.VAD], stt.STT[Any]]
LlmFactory = Callable[[Flow, str], llm.LLM[Any]]  # the flow, and the name of one of its agents
TtsFactory = Callable[[], tts.TTS[Any]]


@dataclass(frozen=True, slots=True)
class SttProvider:
    """A speech recogniser, and the words that it knows."""

    load: Callable[[], SttFactory]
    vocabulary: Callable[[], Collection[str]] | None = None  # None: it accepts any word


@dataclass(frozen=True, slots=True)
class Providers:
    """All providers by kind and name, as functions that load them before a call.

    Each blocks while it loads what calls share, such as a model, and returns the factory that calls use;
    a VAD is shared itself.
    """

    vad: Mapping[str, Callable[[], vad.VAD]]
    stt: Mapping[str, SttProvider]
    llm: Mapping[str, Callable[[], LlmFactory]]
    tts: Mapping[str, Callable[[], TtsFactory]]

    def catalog(self) -> ProviderCatalog:
        """Return the names and vocabularies for the check of a flow."""
        names = {"vad": self.vad, "stt": self.stt, "llm": self.llm, "tts": self.tts}
        vocabularies = {name: stt.vocabulary for name, stt in self.stt.items() if stt.vocabulary is not None}
        return ProviderCatalog(names, vocabularies)


def _load_silero() -> vad.VAD:
    from livekit.plugins import silero  # late: LiveKit preloads the plugins that the worker has imported

    return silero.VAD.load(min_silence_duration=0.4)


def _load_sphinx() -> SttFactory:
    return partial(_build_sphinx, Recogniser())


def _load_script() -> LlmFactory:
    return ScriptedLLM


def _load_espeak() -> TtsFactory:
    load_engine()
    return EspeakTTS


def _build_sphinx(recogniser: Recogniser, flow: Flow, detector: vad.VAD) -> stt.STT[Any]:
    matcher = PhraseMatcher(flow)
    sphinx = SphinxSTT(
        recogniser, grammar=to_grammar(flow), is_sentence=lambda text: matcher.match(text) is not None
    )
    return stt.StreamAdapter(stt=sphinx, vad=detector)


PROVIDERS = Providers(
    vad={"silero": _load_silero},
    stt={"offline": SttProvider(load=_load_sphinx, vocabulary=known_words)},
    llm={"offline": _load_script},
    tts={"offline": _load_espeak},
)
CATALOG = PROVIDERS.catalog()


@dataclass(frozen=True, slots=True)
class _Loaded:
    vad: Mapping[str, vad.VAD]
    stt: Mapping[str, SttFactory]
    llm: Mapping[str, LlmFactory]
    tts: Mapping[str, TtsFactory]


_LOADED = __name__  # the key in a job process's userdata


def check_installed() -> None:
    """Raise ImportError when a library is missing that has no wheel for every platform, or is unusable."""
    load_library()
    import_espeak()


def prewarm(userdata: MutableMapping[str, Any]) -> None:
    """Load all providers into a job process's userdata; blocks for about half a second."""
    userdata[_LOADED] = _Loaded(
        vad={name: load() for name, load in PROVIDERS.vad.items()},
        stt={name: provider.load() for name, provider in PROVIDERS.stt.items()},
        llm={name: load() for name, load in PROVIDERS.llm.items()},
        tts={name: load() for name, load in PROVIDERS.tts.items()},
    )


def _loaded(userdata: MutableMapping[str, Any]) -> _Loaded:
    if _LOADED not in userdata:
        prewarm(userdata)
    loaded: _Loaded = userdata[_LOADED]
    return loaded


def llm_factory(flow: Flow, userdata: MutableMapping[str, Any]) -> LlmFactory:
    """Return the factory of the language models of a flow's agents."""
    return _loaded(userdata).llm[flow.providers.llm]


def session_options(flow: Flow, userdata: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of AgentSession for a flow; blocks for some milliseconds.

    The providers come from `userdata`; they are loaded now if `prewarm` has not been called.
    """
    loaded = _loaded(userdata)
    names = flow.providers
    detector = loaded.vad[names.vad]
    return {
        "vad": detector,
        "stt": loaded.stt[names.stt](flow, detector),
        "llm": loaded.llm[names.llm](flow, flow.entry),
        "tts": loaded.tts[names.tts](),
        "user_away_timeout": flow.silence.after_seconds,
        # explicit, because the defaults may call a cloud service or generate answers that are discarded
        "turn_handling": {
            "turn_detection": "vad",
            "endpointing": {"mode": "fixed", "min_delay": 0.2, "max_delay": 1.0},
            "interruption": {"enabled": True, "mode": "vad"},
            "preemptive_generation": {"enabled": False},
        },
    }
