"""PocketSphinx with the grammar of a flow: a recogniser, and the LiveKit speech-to-text plug-in on top of it.

A grammar matches one of its sentences to any sound. The acoustic score of the decode per 10 ms frame measures
how well it fits; below a threshold the sound is "(unclear)". Measurements: docs/discussions/hearing.md.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from livekit import rtc
from livekit.agents import LanguageCode, stt, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

SAMPLE_RATE: Final = 16_000  # Hz
SCORE_THRESHOLD: Final = -26.5  # a sound that scores lower is unclear
UNCLEAR: Final = "(unclear)"  # a transcript, so that the turn is recorded and answered

_ACOUSTIC_MODEL: Final = "en-us/en-us"
_DICTIONARY: Final = "en-us/cmudict-en-us.dict"
_SCORE_SCALE: Final = 2.5  # the slope of the confidence around the threshold
_BYTES_PER_FRAME: Final = 320  # 10 ms
_SHORTEST_FRAMES: Final = 10
_DITHER: Final = 16  # of 32,768: digital silence has no logarithm, and shifts the mean of every frame
_SEARCH: Final = "flow"


def import_pocketsphinx() -> Any:
    """Return the `pocketsphinx` module. Raises ImportError, which names the package to install."""
    try:
        import pocketsphinx
    except ImportError as error:
        reason = "the stt provider 'offline' needs PocketSphinx (pip install pocketsphinx)"
        raise ImportError(f"{reason}: {error}") from error
    return pocketsphinx


@cache
def known_words() -> frozenset[str]:
    """Return the 130,000 words of the pronunciation dictionary; cached. Raises ImportError."""
    lines = Path(import_pocketsphinx().get_model_path(_DICTIONARY)).read_text(encoding="utf-8").splitlines()
    return frozenset(line.partition(" ")[0] for line in lines)


@dataclass(frozen=True, slots=True)
class Recognition:
    """The best match ("" when there is none) and its confidence, from 0 to 1; the threshold is 0.5."""

    text: str
    confidence: float

    @property
    def is_clear(self) -> bool:
        """Whether the match is good enough to be used."""
        return self.text != "" and self.confidence >= 0.5


class Recogniser:
    """A PocketSphinx decoder. Not thread-safe; the constructor blocks for about 0.3 s."""

    def __init__(self) -> None:
        pocketsphinx = import_pocketsphinx()
        self._decoder = pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path(_ACOUSTIC_MODEL),
            dict=pocketsphinx.get_model_path(_DICTIONARY),
            lm=None,
            cmn="batch",  # normalise each utterance on its own: earlier utterances have no influence
            bestpath=False,  # a second search of the lattice loses correct sentences and finds none
            loglevel="FATAL",
        )
        self._log_base = math.log(self._decoder.config["logbase"])

    def use_grammar(self, grammar: str) -> None:
        """Recognise the sentences of a JSGF grammar from now on. Raises ValueError."""
        self._decoder.add_jsgf_string(_SEARCH, grammar)
        self._decoder.activate_search(_SEARCH)

    def recognise(self, pcm: bytes) -> Recognition:
        """Decode one utterance of 16 kHz mono signed 16-bit PCM; blocks for a fraction of its duration."""
        frames = len(pcm) // _BYTES_PER_FRAME
        if frames < _SHORTEST_FRAMES:
            return Recognition("", 0.0)
        self._decoder.start_utt()
        self._decoder.process_raw(_dithered(pcm), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr or hypothesis.score <= 0:
            return Recognition("", 0.0)
        score = math.log(hypothesis.score) / self._log_base / frames
        return Recognition(hypothesis.hypstr, _confidence(score))


def _dithered(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype=np.int16).astype(np.float64)
    noise = np.random.default_rng(0).normal(scale=_DITHER, size=len(samples))  # the same for the same audio
    return np.clip(samples + noise, -32_768, 32_767).astype(np.int16).tobytes()


def _confidence(score: float) -> float:
    return 1 / (1 + math.exp(min((SCORE_THRESHOLD - score) / _SCORE_SCALE, 700)))


class SphinxSTT(stt.STT[Any]):
    """Speech to text for the sentences of one flow; anything else is "(unclear)", with its confidence."""

    def __init__(self, recogniser: Recogniser, *, grammar: str, is_sentence: Callable[[str], bool]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._recogniser = recogniser
        self._recogniser.use_grammar(grammar)
        self._is_sentence = is_sentence
        self._lock = asyncio.Lock()  # the recogniser is not thread-safe

    @property
    def model(self) -> str:
        """Return the model's name in usage metrics."""
        return "pocketsphinx-en-us"

    @property
    def provider(self) -> str:
        """Return the provider's name in usage metrics."""
        return "offline"

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        pcm = _at_16_khz(rtc.combine_audio_frames(buffer))
        async with self._lock:
            recognised = await asyncio.to_thread(self._recogniser.recognise, pcm)
        # a decode can stop in the middle of a sentence; the fragment is not a sentence of the flow
        is_clear = recognised.is_clear and self._is_sentence(recognised.text)
        alternative = stt.SpeechData(
            language=LanguageCode("en"),
            text=recognised.text if is_clear else UNCLEAR,
            confidence=recognised.confidence if is_clear else min(recognised.confidence, 0.49),
        )
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[alternative])


def _at_16_khz(frame: rtc.AudioFrame) -> bytes:
    if frame.num_channels != 1:
        raise ValueError(f"the recogniser takes mono audio, not {frame.num_channels} channels")
    if frame.sample_rate == SAMPLE_RATE:
        return bytes(frame.data)
    resampler = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE)
    return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])
