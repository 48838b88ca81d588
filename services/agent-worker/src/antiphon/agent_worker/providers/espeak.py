"""eSpeak NG through ctypes: text in, PCM out.

The command line's synthetic caller imports this module, so it imports neither LiveKit nor PocketSphinx.
"""

import ctypes
import threading
from typing import Any, Final

DEFAULT_VOICE: Final = "en-us"
WORDS_PER_MINUTE: Final = 170

# espeak_AUDIO_OUTPUT: AUDIO_OUTPUT_SYNCHRONOUS. The other mode that returns audio speaks in a thread of its
# own, whose end espeak_Synchronize looks for each 20 ms.
_SYNCHRONOUS: Final = 2
_DONT_EXIT: Final = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error is returned, the process does not exit
_RATE: Final = 1  # espeak_PARAMETER: espeakRATE
_UTF8: Final = 1  # espeakCHARS_UTF8
_FROM_CHARACTER: Final = 1  # espeak_POSITION_TYPE: POS_CHARACTER

_Sink = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechSynthesisFailed(RuntimeError):
    """eSpeak NG is not available, or could not speak the text."""


def import_espeak() -> Any:
    """Return the `espeakng_loader` module. Raises ImportError, which names the package to install."""
    try:
        import espeakng_loader
    except ImportError as error:
        reason = "speech synthesis needs eSpeak NG (pip install espeakng-loader)"
        raise ImportError(f"{reason}: {error}") from error
    return espeakng_loader


class _Engine:
    """The eSpeak NG library. It has global state: one instance per process, one text at a time."""

    def __init__(self) -> None:
        try:
            loader = import_espeak()
            self._library = ctypes.CDLL(loader.get_library_path())
        except ImportError as error:
            raise SpeechSynthesisFailed(str(error)) from error
        except OSError as error:
            raise SpeechSynthesisFailed(f"the eSpeak NG library does not load: {error}") from error
        data = loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, ctypes.c_char_p(data), _DONT_EXIT)
        if rate <= 0:
            raise SpeechSynthesisFailed(f"eSpeak NG did not start (code {rate}) with its data in {data!r}")
        self.sample_rate: int = rate
        self._pcm = bytearray()
        # ctypes holds no reference: without this attribute the callback is freed, and the next call crashes
        self._sink = _Sink(self._collect)
        self._library.espeak_SetSynthCallback(self._sink)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if count > 0 and samples:
            self._pcm += ctypes.string_at(samples, count * 2)
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int) -> bytes:
        self._pcm.clear()
        self._require(self._library.espeak_SetVoiceByName(voice.encode()), f"choose the voice {voice!r}")
        self._require(self._library.espeak_SetParameter(_RATE, words_per_minute, 0), "set the speed")
        encoded = text.encode() + b"\0"
        size = ctypes.c_size_t(len(encoded))
        self._require(
            self._library.espeak_Synth(encoded, size, 0, _FROM_CHARACTER, 0, _UTF8, None, None),
            f"speak {text!r}",
        )
        return bytes(self._pcm)

    @staticmethod
    def _require(code: int, what: str) -> None:
        if code != 0:
            raise SpeechSynthesisFailed(f"eSpeak NG could not {what} (code {code})")


_lock = threading.Lock()
_engine: _Engine | None = None


def load_engine() -> None:
    """Load eSpeak NG now, and not with the first text. Thread-safe. Raises SpeechSynthesisFailed."""
    with _lock:
        _loaded_engine()


def synthesize(
    text: str, *, voice: str = DEFAULT_VOICE, words_per_minute: int = WORDS_PER_MINUTE
) -> tuple[int, bytes]:
    """Speak a text; return the sample rate in Hz (22,050) and mono signed 16-bit PCM.

    Thread-safe. Raises SpeechSynthesisFailed.
    """
    with _lock:
        engine = _loaded_engine()
        return engine.sample_rate, engine.speak(text, voice, words_per_minute)


def _loaded_engine() -> _Engine:
    global _engine  # noqa: PLW0603  the library has global state too
    if _engine is None:
        _engine = _Engine()
    return _engine
