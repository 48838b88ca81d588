"""eSpeak NG's voice: text in, PCM out. Imports nothing heavy, so that a command line can speak at once."""

import ctypes
import threading
from typing import Final

import espeakng_loader

DEFAULT_VOICE: Final = "en-us"
WORDS_PER_MINUTE: Final = 170

_RETRIEVE_AUDIO: Final = 1  # espeak_AUDIO_OUTPUT: AUDIO_OUTPUT_RETRIEVAL
_DONT_EXIT: Final = 0x8000  # espeakINITIALIZE_DONT_EXIT: a missing voice is an error here, not an exit
_RATE: Final = 1  # espeak_PARAMETER: espeakRATE
_UTF8: Final = 1  # espeakCHARS_UTF8
_FROM_CHARACTER: Final = 1  # espeak_POSITION_TYPE: POS_CHARACTER

_Sink = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechSynthesisFailed(RuntimeError):
    """eSpeak NG could not turn the text into sound."""


class _Engine:
    """The one eSpeak NG of this process: it keeps global state, so it speaks one text at a time."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise SpeechSynthesisFailed(f"eSpeak NG's library does not load: {error}") from error
        data = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_RETRIEVE_AUDIO, 0, ctypes.c_char_p(data), _DONT_EXIT)
        if rate <= 0:
            raise SpeechSynthesisFailed(f"eSpeak NG did not start (code {rate}) with its data in {data!r}")
        self.sample_rate: int = rate
        self._heard = bytearray()
        # ctypes keeps no reference: without this attribute it is collected, and the next call crashes
        self._sink = _Sink(self._collect)
        self._library.espeak_SetSynthCallback(self._sink)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if count > 0 and samples:
            self._heard += ctypes.string_at(samples, count * 2)
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int) -> bytes:
        self._heard.clear()
        self._require(self._library.espeak_SetVoiceByName(voice.encode()), f"choose the voice {voice!r}")
        self._require(self._library.espeak_SetParameter(_RATE, words_per_minute, 0), "set the speed")
        spoken = text.encode() + b"\0"
        size = ctypes.c_size_t(len(spoken))
        self._require(
            self._library.espeak_Synth(spoken, size, 0, _FROM_CHARACTER, 0, _UTF8, None, None),
            f"speak {text!r}",
        )
        self._require(self._library.espeak_Synchronize(), f"finish {text!r}")
        return bytes(self._heard)

    @staticmethod
    def _require(code: int, what: str) -> None:
        if code != 0:
            raise SpeechSynthesisFailed(f"eSpeak NG could not {what} (code {code})")


_lock = threading.Lock()
_engine: _Engine | None = None


def synthesize(
    text: str, *, voice: str = DEFAULT_VOICE, words_per_minute: int = WORDS_PER_MINUTE
) -> tuple[int, bytes]:
    """Speak a text; return the sample rate in Hz (22,050) and mono signed 16-bit PCM.

    Safe to call from any thread. Raises SpeechSynthesisFailed.
    """
    global _engine  # noqa: PLW0603  the library itself is one global, and is opened once
    with _lock:
        if _engine is None:
            _engine = _Engine()
        return _engine.sample_rate, _engine.speak(text, voice, words_per_minute)
