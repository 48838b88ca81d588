"""The providers that need no network: the script, PocketSphinx, eSpeak NG, and the Silero VAD."""

from typing import Any, Literal

from livekit.agents import stt, vad

from antiphon.agent_worker.flow.phrase import PhraseMatcher, to_grammar
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.entry import ProviderEntry, Use
from antiphon.agent_worker.providers.espeak import load_engine
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.sentence_stt import SentenceSTT
from antiphon.agent_worker.providers.sphinx import Recogniser, known_words
from antiphon.agent_worker.providers.sphinx_stt import SphinxSTT

_EXAMPLE = "voice: {vad: silero, stt: offline, llm: offline, tts: offline}\n"


def load_silero(
    *,
    min_speech_duration: float = 0.05,
    min_silence_duration: float = 0.4,
    prefix_padding_duration: float = 0.5,
    max_buffered_speech: float = 60.0,
    activation_threshold: float = 0.5,
    sample_rate: Literal[8000, 16000] = 16_000,
) -> vad.VAD:
    """Load the Silero VAD. Durations are in seconds; the threshold is between 0 and 1."""
    from livekit.plugins import silero  # late: LiveKit preloads the plugins that the worker has imported

    return silero.VAD.load(
        min_speech_duration=min_speech_duration,
        min_silence_duration=min_silence_duration,
        prefix_padding_duration=prefix_padding_duration,
        max_buffered_speech=max_buffered_speech,
        activation_threshold=activation_threshold,
        sample_rate=sample_rate,
    )


def build_sphinx(*, use: Use) -> stt.STT[Any]:
    """Return the recogniser of the sentences of a flow."""
    flow = use.bound.flow
    matcher = PhraseMatcher(flow)
    sphinx = SphinxSTT(
        use.shared, grammar=to_grammar(flow), is_sentence=lambda text: matcher.match(text) is not None
    )
    return sphinx if use.detector is None else SentenceSTT(stt=sphinx, vad=use.detector)


def build_script(*, use: Use) -> ScriptedLLM:
    """Return the model that follows the script of an agent."""
    return ScriptedLLM(use.bound, use.agent)


def build_espeak() -> EspeakTTS:
    """Return the voice of eSpeak NG."""
    return EspeakTTS()


OFFLINE = (
    ProviderEntry(
        "vad",
        "silero",
        load_silero,
        "Silero VAD, in the process. The default.",
        "voice: {vad: {use: silero, min_silence_duration: 0.3}, stt: deepgram, llm: openai, tts: openai}\n",
        plugin="livekit.plugins.silero",
    ),
    ProviderEntry(
        "stt",
        "offline",
        build_sphinx,
        "PocketSphinx, in the process: English, and only the sentences of the flow's `script`.",
        _EXAMPLE,
        takes_use=True,
        load=Recogniser,
        vocabulary=known_words,
        preload="antiphon.agent_worker.preload_words",
    ),
    ProviderEntry(
        "llm",
        "offline",
        build_script,
        "No model: the answers are those of the flow's `script`.",
        _EXAMPLE,
        takes_use=True,
        per_agent=True,
    ),
    ProviderEntry(
        "tts",
        "offline",
        build_espeak,
        "eSpeak NG, in the process: clear, and a robot.",
        _EXAMPLE,
        load=load_engine,
    ),
)
