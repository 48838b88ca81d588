import io
from collections.abc import Callable

import av
import numpy as np
import pytest
from livekit import rtc
from numpy.typing import NDArray

from antiphon.agent_worker.providers.espeak import synthesize

Samples = NDArray[np.float64]
OPUS_RATE = 48_000  # Hz, in a room
ROOM_RATE = 24_000  # Hz, as an agent receives it
SPOKEN_RATE = 22_050  # Hz, of eSpeak NG


@pytest.fixture(scope="session")
def speak() -> Callable[[str], Samples]:
    """Return a text as speech between silences, from -1 to 1, at 22,050 Hz."""

    def speak(text: str) -> Samples:
        _, pcm = synthesize(text)
        speech = np.frombuffer(pcm, dtype=np.int16) / 32_768
        return np.concatenate([np.zeros(SPOKEN_RATE // 3), speech, np.zeros(SPOKEN_RATE)])

    return speak


@pytest.fixture(scope="session")
def carry() -> Callable[[Samples], list[rtc.AudioFrame]]:
    """Audio as an agent receives it in a call."""
    return through_a_room


def through_a_room(sound: Samples) -> list[rtc.AudioFrame]:
    """Encode audio as LiveKit does: Opus at 24 kbit/s, then 24 kHz in frames of 20 ms."""
    pcm = _decode(_encode((np.clip(sound, -1, 1) * 32_767).astype(np.int16)))
    size = ROOM_RATE // 50
    return [
        rtc.AudioFrame(pcm[start : start + size].tobytes(), ROOM_RATE, 1, size)
        for start in range(0, len(pcm) - size, size)
    ]


def _encode(pcm: NDArray[np.int16]) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=OPUS_RATE, options={"application": "voip"})
        stream.layout = "mono"
        stream.bit_rate = 24_000
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = SPOKEN_RATE
        resampler = av.AudioResampler("s16", "mono", OPUS_RATE)
        for resampled in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(resampled))
    file.seek(0)
    return file


def _decode(file: io.BytesIO) -> NDArray[np.int16]:
    resampler = av.AudioResampler("s16", "mono", ROOM_RATE)
    with av.open(file, "r") as container:
        parts = [
            resampled.to_ndarray().reshape(-1)
            for frame in container.decode(audio=0)
            for resampled in resampler.resample(frame)
        ]
    return np.concatenate(parts).astype(np.int16)
