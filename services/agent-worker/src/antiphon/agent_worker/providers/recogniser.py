"""PocketSphinx with a flow's grammar, and the gate that keeps coughs and other words out of it.

A grammar finds one of its own sentences in whatever it hears. What tells a real one is how well it fits: the
acoustic score of the decode per 10 ms frame, measured against the best sound the model knows for that frame.
How the threshold was found, with figures: docs/discussions/hearing.md.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from pocketsphinx import Decoder

from antiphon.agent_worker.providers.dictionary import ACOUSTIC_MODEL, DICTIONARY

SAMPLE_RATE: Final = 16_000  # Hz
SCORE_THRESHOLD: Final = -26.5  # below it, what was heard is "unclear"
_SCORE_SCALE: Final = 2.5  # how fast confidence falls around the threshold
_BYTES_PER_FRAME: Final = 320  # 10 ms
_SHORTEST_FRAMES: Final = 10
_DITHER: Final = 16  # of 32,768: digital silence has no logarithm, and shifts the mean of every frame
_SEARCH: Final = "flow"


@dataclass(frozen=True, slots=True)
class Recognition:
    """The sentence that fits best ("" when none fits), and how sure that is, from 0 to 1; 0.5 is the gate."""

    text: str
    confidence: float

    @property
    def is_clear(self) -> bool:
        """Whether the sentence passes the gate."""
        return self.text != "" and self.confidence >= 0.5


class Recogniser:
    """One PocketSphinx decoder. Not for two threads at once; making one blocks for about 0.3 s."""

    def __init__(self) -> None:
        self._decoder = Decoder(
            hmm=ACOUSTIC_MODEL,
            dict=DICTIONARY,
            lm=None,
            cmn="batch",  # the mean of each utterance by itself: what was said before changes nothing
            bestpath=False,  # searching the lattice again loses right sentences and finds none
            loglevel="FATAL",
        )
        self._log_base = math.log(self._decoder.config["logbase"])

    def use_grammar(self, grammar: str) -> None:
        """Listen for the sentences of a JSGF grammar from now on. Raises ValueError."""
        self._decoder.add_jsgf_string(_SEARCH, grammar)
        self._decoder.activate_search(_SEARCH)

    def recognise(self, pcm: bytes) -> Recognition:
        """Decode one utterance of 16 kHz mono signed 16-bit PCM; blocks for a small part of its length."""
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
