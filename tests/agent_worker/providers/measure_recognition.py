"""Measure how well the threshold separates sentences of a flow from other words and noise; three minutes.

python -m tests.agent_worker.providers.measure_recognition      (the figures of docs/discussions/hearing.md)
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents.vad import VAD, VADEventType
from livekit.plugins import silero
from numpy.typing import NDArray
from tests.agent_worker.providers.conftest import SPOKEN_RATE, through_a_room
from tests.agent_worker.providers.test_recognition import NOISES

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.phrase import PhraseMatcher, to_grammar
from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.agent_worker.providers.sphinx import SAMPLE_RATE, Recogniser

Samples = NDArray[np.float64]
HERE = Path(__file__)
FLOW = load_flow(HERE.parents[3] / "flows" / "booking.yaml", CATALOG)
SENTENCES = (HERE.parent / "flow_sentences.txt").read_text().splitlines()
OTHER_WORDS = (HERE.parent / "other_words.txt").read_text().splitlines()
PLAIN_VOICES = [("en-us", 130), ("en-us", 170), ("en-us", 210), ("en-us+f2", 170), ("en-us+f5", 170)]
PLAIN_VOICES += [("en-us+m1", 180), ("en-us+m3", 170), ("en-us+m4", 150), ("en-us+m7", 190)]
ODD_VOICES = [("en-us+f4", 150), ("en-us+Andy", 170), ("en-gb-scotland", 170), ("en-029", 160)]
LEVELS = (1.0, 0.5, 0.15)
NOISE_FLOORS = (0.0, 0.002, 0.006)  # of the level: no noise, 54 dB, 44 dB below full scale
BABBLES = 12


def _speech(text: str, voice: str, words_per_minute: int) -> Samples:
    _, pcm = synthesize(text, voice=voice, words_per_minute=words_per_minute)
    return np.frombuffer(pcm, dtype=np.int16) / 32_768


def _corpus() -> Iterator[tuple[str, str, Samples]]:
    random = np.random.default_rng(7)
    groups = [
        ("sentence, plain voice", SENTENCES, PLAIN_VOICES),
        ("sentence, odd voice", SENTENCES, ODD_VOICES),
    ]
    groups += [("other words", OTHER_WORDS, [*PLAIN_VOICES[1::2], *ODD_VOICES[::2]])]
    for group, texts, voices in groups:
        for number, text in enumerate(texts):
            for turn, (voice, speed) in enumerate(voices):
                level, floor = LEVELS[(number + turn) % 3], NOISE_FLOORS[(number * 2 + turn) % 3]
                sound = _between_silences(_speech(text, voice, speed))
                yield group, text, level * (sound + random.normal(size=len(sound)) * floor)
    for name, noise in NOISES.items():
        for level in (0.05, 0.3, 0.9):
            yield "noise", name, _between_silences(noise / np.abs(noise).max() * level)
    for _ in range(BABBLES):
        people = [
            _speech(" ".join(random.choice(OTHER_WORDS, 2)), voice, 170) for voice, _ in PLAIN_VOICES[1::3]
        ]
        length = max(map(len, people))
        together = np.mean([np.pad(person, (0, length - len(person))) for person in people], axis=0)
        yield "three people at once", "", _between_silences(together)


def _between_silences(sound: Samples) -> Samples:
    return np.concatenate([np.zeros(SPOKEN_RATE // 3), sound, np.zeros(SPOKEN_RATE)])


async def _utterances(frames: list[rtc.AudioFrame], detector: VAD) -> list[bytes]:
    stream = detector.stream()
    for frame in frames:
        stream.push_frame(frame)
    stream.end_input()
    ends = [event async for event in stream if event.type == VADEventType.END_OF_SPEECH]
    return [_at_16_khz(rtc.combine_audio_frames(event.frames)) for event in ends]


def _at_16_khz(frame: rtc.AudioFrame) -> bytes:
    resampler = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE)
    return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])


async def _measure() -> None:
    detector = silero.VAD.load(min_silence_duration=0.4)
    matcher = PhraseMatcher(FLOW)
    recogniser = Recogniser()
    recogniser.use_grammar(to_grammar(FLOW))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    milliseconds = []
    for group, text, sound in _corpus():
        frames = through_a_room(sound)
        utterances = await _utterances(frames, detector)
        counts[group].update(sounds=1, **{"detected as speech": bool(utterances)})
        for pcm in utterances or [_at_16_khz(rtc.combine_audio_frames(frames))]:
            began = time.perf_counter()
            recognised = recogniser.recognise(pcm)
            milliseconds.append((time.perf_counter() - began) * 1_000)
            match = matcher.match(recognised.text)
            counts[group]["a sentence, without the threshold"] += match is not None
            counts[group]["a sentence"] += match is not None and recognised.is_clear
            counts[group]["the right one"] += (
                match is not None and recognised.is_clear and match == matcher.match(text)
            )
    for group, count in counts.items():
        print(f"{group:24}", dict(count))
    print("decode ms: p50, p95", np.percentile(milliseconds, [50, 95]).round())


if __name__ == "__main__":
    asyncio.run(_measure())
