"""The providers of voice, by kind and name. A new provider is one entry here.

The factories import what they need when they are called, so that checking a flow's names costs nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon.agent_worker.flow.model import Flow

Kind = str  # vad | stt | llm | tts
Parts = Mapping[Kind, Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """How one provider is made: what is loaded ahead of a call, and the part that a call uses."""

    build: "Callable[[Flow, str, Any, Parts], Any]"  # flow, agent, what `load` returned, the parts before it
    load: Callable[[], Any] = lambda: None
    known_words: Callable[[], frozenset[str]] | None = None  # None: it hears any word


def _load_silero() -> Any:
    from livekit.plugins import silero

    return silero.VAD.load(min_silence_duration=0.4)


def _load_sphinx() -> Any:
    from antiphon.agent_worker.providers.recogniser import Recogniser

    return Recogniser()


def _build_sphinx(flow: "Flow", _agent: str, recogniser: Any, parts: Parts) -> Any:
    from livekit.agents import stt

    from antiphon.agent_worker.flow.understanding import Understanding, to_grammar
    from antiphon.agent_worker.providers.sphinx import SphinxSTT

    sphinx = SphinxSTT(recogniser, grammar=to_grammar(flow), understanding=Understanding(flow))
    return stt.StreamAdapter(stt=sphinx, vad=parts["vad"])


def _sphinx_words() -> frozenset[str]:
    from antiphon.agent_worker.providers.dictionary import known_words

    return known_words()


def _build_scripted(flow: "Flow", agent: str, _loaded: Any, _parts: Parts) -> Any:
    from antiphon.agent_worker.providers.scripted import ScriptedLLM

    return ScriptedLLM(flow, agent)


def _build_espeak(_flow: "Flow", _agent: str, _loaded: Any, _parts: Parts) -> Any:
    from antiphon.agent_worker.providers.espeak_tts import EspeakTTS

    return EspeakTTS()


PROVIDERS: Mapping[Kind, Mapping[str, Provider]] = {
    "vad": {"silero": Provider(load=_load_silero, build=lambda _flow, _agent, vad, _parts: vad)},
    "stt": {"offline": Provider(load=_load_sphinx, build=_build_sphinx, known_words=_sphinx_words)},
    "llm": {"offline": Provider(build=_build_scripted)},
    "tts": {"offline": Provider(build=_build_espeak)},
}
