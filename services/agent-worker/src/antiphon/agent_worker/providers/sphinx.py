"""PocketSphinx with the grammar of a flow, through ctypes: PCM in, the best match and its confidence out.

PocketSphinx's own Python binding holds the GIL for a whole decode, so a thread would not help the event loop.
A grammar matches one of its sentences to any sound. The acoustic score of the decode per 10 ms frame measures
how well it fits; below a threshold the sound is unclear. Measurements: docs/discussions/hearing.md.
"""

import ctypes
import math
import threading
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

SAMPLE_RATE: Final = 16_000  # Hz
SCORE_THRESHOLD: Final = -26.5  # a sound that scores lower is unclear

_ACOUSTIC_MODEL: Final = "en-us/en-us"
_DICTIONARY: Final = "en-us/cmudict-en-us.dict"
_SCORE_SCALE: Final = 2.5  # the slope of the confidence around the threshold
_BYTES_PER_FRAME: Final = 320  # 10 ms
_SHORTEST_FRAMES: Final = 10
_DITHER: Final = 16  # of 32,768: digital silence has no logarithm, and shifts the mean of every frame
_SEARCH: Final = b"flow"

# the type of the result, and of the arguments
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ps_config_init": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ps_config_set_str": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]),
    "ps_config_set_bool": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]),
    "ps_config_free": (ctypes.c_int, [ctypes.c_void_p]),
    "ps_init": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ps_free": (ctypes.c_int, [ctypes.c_void_p]),
    "ps_add_jsgf_string": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]),
    "ps_activate_search": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]),
    "ps_start_utt": (ctypes.c_int, [ctypes.c_void_p]),
    "ps_process_raw": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int],
    ),
    "ps_end_utt": (ctypes.c_int, [ctypes.c_void_p]),
    "ps_get_hyp": (ctypes.c_char_p, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int32)]),
}


class RecognitionFailed(RuntimeError):
    """PocketSphinx refused its configuration or an utterance."""


def import_pocketsphinx() -> Any:
    """Return the `pocketsphinx` module. Raises ImportError, which names the package to install."""
    try:
        import pocketsphinx
    except ImportError as error:
        reason = "the stt provider 'offline' needs PocketSphinx (pip install pocketsphinx)"
        raise ImportError(f"{reason}: {error}") from error
    return pocketsphinx


def load_library() -> ctypes.CDLL:
    """Return the C library in PocketSphinx's extension module; its functions release the GIL.

    Raises ImportError when PocketSphinx is missing, or was built without its C functions in the symbol table.
    """
    import_pocketsphinx()
    from pocketsphinx import _pocketsphinx

    library = ctypes.CDLL(_pocketsphinx.__file__)
    try:
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        reason = "the stt provider 'offline' needs a PocketSphinx that exports its C functions"
        raise ImportError(f"{reason}, as its wheels do (pip install pocketsphinx): {error}") from error
    return library


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
    """A PocketSphinx decoder. Thread-safe; the constructor blocks for about 0.3 s."""

    def __init__(self) -> None:
        self._library = load_library()
        self._lock = threading.Lock()  # a cancelled recognition goes on in its thread
        self._decoder = _new_decoder(self._library)
        weakref.finalize(self, self._library.ps_free, self._decoder).atexit = False

    def use_grammar(self, grammar: str) -> None:
        """Recognise the sentences of a JSGF grammar from now on. Raises ValueError."""
        with self._lock:
            if self._library.ps_add_jsgf_string(self._decoder, _SEARCH, grammar.encode()) != 0:
                raise ValueError("PocketSphinx cannot read the grammar")
            self._require(self._library.ps_activate_search(self._decoder, _SEARCH), "use the grammar")

    def recognise(self, pcm: bytes) -> Recognition:
        """Decode one utterance of 16 kHz mono signed 16-bit PCM; blocks for a fraction of its duration.

        Raises RecognitionFailed.
        """
        frames = len(pcm) // _BYTES_PER_FRAME
        if frames < _SHORTEST_FRAMES:
            return Recognition("", 0.0)
        text, score = self._decode(_dithered(pcm))
        return Recognition(text, _confidence(score / frames)) if text else Recognition("", 0.0)

    def _decode(self, pcm: bytes) -> tuple[str, int]:
        score = ctypes.c_int32()
        with self._lock:
            self._require(self._library.ps_start_utt(self._decoder), "start an utterance")
            try:
                # the whole utterance in one call: its mean is computed before the search
                searched = self._library.ps_process_raw(self._decoder, pcm, len(pcm) // 2, 0, 1)
            finally:
                ended = self._library.ps_end_utt(self._decoder)
            self._require(searched, f"decode {len(pcm) // 2} samples")
            self._require(ended, "end an utterance")
            text: bytes | None = self._library.ps_get_hyp(self._decoder, ctypes.byref(score))
        return (text or b"").decode(), score.value

    @staticmethod
    def _require(code: int, what: str) -> None:
        if code < 0:
            raise RecognitionFailed(f"PocketSphinx could not {what} (code {code})")


def _new_decoder(library: ctypes.CDLL) -> int:
    model_path = import_pocketsphinx().get_model_path
    config = library.ps_config_init(None)
    try:
        library.ps_config_set_str(config, b"loglevel", b"FATAL")
        library.ps_config_set_str(config, b"hmm", model_path(_ACOUSTIC_MODEL).encode())
        library.ps_config_set_str(config, b"dict", model_path(_DICTIONARY).encode())
        # normalise each utterance on its own: earlier utterances have no influence
        library.ps_config_set_str(config, b"cmn", b"batch")
        # a second search of the lattice loses correct sentences and finds none
        library.ps_config_set_bool(config, b"bestpath", 0)
        decoder: int | None = library.ps_init(config)  # retains the configuration
    finally:
        library.ps_config_free(config)
    if decoder is None:
        raise RecognitionFailed("PocketSphinx could not load its models")
    return decoder


def _dithered(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype=np.int16).astype(np.float64)
    noise = np.random.default_rng(0).normal(scale=_DITHER, size=len(samples))  # the same for the same audio
    return np.clip(samples + noise, -32_768, 32_767).astype(np.int16).tobytes()


def _confidence(score: float) -> float:
    return 1 / (1 + math.exp(min((SCORE_THRESHOLD - score) / _SCORE_SCALE, 700)))
