"""Audio of the doubles: tones in place of voices, and the detection of sound by its level.

All audio is signed 16-bit little-endian mono. Positions and lengths are in seconds of the stream.
"""

import io
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

SECONDS_A_WORD = 0.25
LOUD = 500  # of 32767; noise of a line is below
STEP_SECONDS = 0.02


@cache
def _one_second(rate: int) -> bytes:
    return array("h", (int(8_000 * math.sin(2 * math.pi * 220 * n / rate)) for n in range(rate))).tobytes()


def tone(seconds: float, rate: int) -> bytes:
    """Return a tone that the doubles take for speech."""
    size = 2 * round(seconds * rate)
    second = _one_second(rate)
    return (second * (size // len(second) + 1))[:size]


def silence(seconds: float, rate: int) -> bytes:
    """Return silence."""
    return bytes(2 * round(seconds * rate))


def speech(text: str, rate: int) -> bytes:
    """Return the audio in which a double speaks a text: a quarter of a second a word."""
    return tone(SECONDS_A_WORD * max(1, len(text.split())), rate)


def blocks(pcm: bytes, rate: int, seconds: float = 0.1) -> Iterator[bytes]:
    """Yield audio in the blocks in which a provider sends it."""
    size = 2 * round(seconds * rate)
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


def encoded(pcm: bytes, rate: int, container: str) -> bytes:
    """Return audio as a file: `wav`, `mp3`, `flac`, `opus` or `aac`."""
    import av  # late: it loads FFmpeg

    codec, muxer = {"opus": ("libopus", "ogg"), "wav": ("pcm_s16le", "wav"), "aac": ("aac", "adts")}.get(
        container, (container, container)
    )
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.planes[0].update(pcm)
        frame.sample_rate = rate
        frame.pts = 0
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate, frame_size=stream.codec_context.frame_size or None
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Sound:
    """What the detector noticed, and where in the stream."""

    kind: Literal["started", "continued", "paused"]
    at: float
    started_at: float
    silent_seconds: float = 0.0  # of a pause


class SoundDetector:
    """Says when sound starts, continues and pauses, by steps of 20 ms of the stream's own time."""

    def __init__(self, rate: int) -> None:
        self.position = 0.0
        self._step = 2 * round(STEP_SECONDS * rate)
        self._rest = b""
        self._started_at: float | None = None
        self._last_loud = 0.0

    def push(self, pcm: bytes) -> Iterator[Sound]:
        """Take the next audio of the stream; yield one Sound a step while there is speech."""
        data = self._rest + pcm
        end = len(data) - len(data) % self._step
        self._rest = data[end:]
        for start in range(0, end, self._step):
            yield from self._push_step(data[start : start + self._step])

    def stop(self) -> None:
        """End the speech: the next sound starts another."""
        self._started_at = None

    def _push_step(self, step: bytes) -> Iterator[Sound]:
        self.position += STEP_SECONDS
        if max(array("h", step)[::4]) > LOUD:
            self._last_loud = self.position
            if self._started_at is None:
                self._started_at = self.position - STEP_SECONDS
                yield Sound("started", self.position, self._started_at)
            else:
                yield Sound("continued", self.position, self._started_at)
        elif self._started_at is not None:
            yield Sound("paused", self.position, self._started_at, self.position - self._last_loud)
