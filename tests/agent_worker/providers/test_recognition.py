"""Speech recognition as in a call: Opus, Silero, PocketSphinx and the score threshold."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import stt
from numpy.typing import NDArray

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.providers.loaded import prewarm
from antiphon.agent_worker.providers.sphinx_stt import UNCLEAR, SphinxSTT
from antiphon.agent_worker.providers.voices import session_options

Samples = NDArray[np.float64]
Speak = Callable[[str], Samples]
Carry = Callable[[Samples], list[rtc.AudioFrame]]
RATE = 22_050  # Hz

RECOGNISED = [
    "hello",
    *(
        f"i would like to book a table for {size}"
        for size in ("two", "three", "four", "five", "six", "seven", "eight")
    ),
    "tomorrow at seven",
    "on friday at half past eight",
    "yes please",
    "no thank you",
    "may i speak to the manager",
    "thank you good bye",
]
UNCLEAR_SENTENCES = [
    "what is the weather like in paris today",
    "do you have a vegetarian menu",
    "i would like to cancel my reservation",
    "the quick brown fox jumps over the lazy dog",
    "my name is john smith",
    "one two three four five six seven",
    "could you repeat that",
    "hold on a second",
]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    return userdata


@pytest.fixture
async def transcribe(bound: BoundFlow, loaded: dict[str, Any]) -> AsyncIterator[Callable[..., Any]]:
    """Return every final transcript, with voice activity detection."""
    recogniser: stt.STT[Any] = session_options(bound, loaded)["stt"]

    async def transcribe(frames: list[rtc.AudioFrame]) -> list[stt.SpeechData]:
        stream = recogniser.stream()
        for frame in frames:
            stream.push_frame(frame)
        stream.end_input()
        async with asyncio.timeout(20), stream:
            final = stt.SpeechEventType.FINAL_TRANSCRIPT
            return [event.alternatives[0] async for event in stream if event.type == final]

    yield transcribe
    await recogniser.aclose()


@pytest.fixture
def recognise(bound: BoundFlow, loaded: dict[str, Any]) -> Callable[..., Any]:
    """Return the transcript without voice activity detection."""
    recogniser = session_options(bound, loaded)["stt"].wrapped_stt
    assert isinstance(recogniser, SphinxSTT)

    async def recognise(frames: list[rtc.AudioFrame]) -> stt.SpeechData:
        return (await recogniser.recognize(frames)).alternatives[0]

    return recognise


@pytest.mark.parametrize("sentence", RECOGNISED)
async def test_sentence_of_the_flow_is_recognised(
    sentence: str, speak: Speak, carry: Carry, transcribe: Any
) -> None:
    (transcript,) = await transcribe(carry(speak(sentence)))
    assert transcript.text == sentence
    assert transcript.confidence > 0.5


@pytest.mark.parametrize("sentence", UNCLEAR_SENTENCES)
async def test_other_sentences_are_unclear(
    sentence: str, speak: Speak, carry: Carry, transcribe: Any
) -> None:
    transcripts = await transcribe(carry(speak(sentence)))
    assert transcripts
    assert all(part.text == UNCLEAR and part.confidence < 0.5 for part in transcripts)


def _noises() -> Iterator[tuple[str, Samples]]:
    random = np.random.default_rng(7)
    second = np.arange(RATE) / RATE
    decay = np.minimum(second / 0.01, 1) * np.exp(-second / 0.1)
    yield "a cough", random.normal(size=RATE) * decay
    yield "two coughs", np.concatenate([random.normal(size=RATE) * decay] * 2)
    yield "a throat", np.sign(np.sin(2 * np.pi * 110 * second * (1 - 0.3 * second))) * decay
    yield "white noise", random.normal(size=RATE)
    yield "a breath", random.normal(size=RATE) * np.hanning(RATE)
    yield "a tone", np.sin(2 * np.pi * 440 * second)
    yield "a key of a telephone", np.sin(2 * np.pi * 770 * second) + np.sin(2 * np.pi * 1336 * second)
    yield "a hum", np.sign(np.sin(2 * np.pi * 150 * second)) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * second))
    yield "knocks", np.tile(random.normal(size=RATE // 5) * np.exp(-np.arange(RATE // 5) / 300), 5)


NOISES = dict(_noises())


@pytest.mark.parametrize("name", NOISES)
async def test_noise_is_not_a_sentence(name: str, carry: Carry, transcribe: Any) -> None:
    silence = np.zeros(RATE)
    noise = NOISES[name]
    for level in (0.1, 0.5):
        sound = np.concatenate([silence, noise / np.abs(noise).max() * level, silence])
        assert all(part.text == UNCLEAR for part in await transcribe(carry(sound))), name


@pytest.mark.parametrize("name", NOISES)
async def test_noise_without_voice_activity_detection_is_unclear(
    name: str, carry: Carry, recognise: Any
) -> None:
    noise = NOISES[name]
    transcript = await recognise(carry(noise / np.abs(noise).max() * 0.5))
    assert (transcript.text, transcript.confidence < 0.5) == (UNCLEAR, True), name


async def test_silence_has_no_transcript(carry: Carry, transcribe: Any) -> None:
    assert await transcribe(carry(np.zeros(3 * RATE))) == []


async def test_earlier_utterances_have_no_influence(speak: Speak, carry: Carry, recognise: Any) -> None:
    first = await recognise(carry(speak("yes please")))
    await recognise(carry(speak("the quick brown fox jumps over the lazy dog")))
    again = await recognise(carry(speak("yes please")))
    assert first.text == again.text == "yes please"
    assert abs(first.confidence - again.confidence) < 0.1


async def test_threshold_rejects_other_words(
    speak: Speak, carry: Carry, recognise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The noise in the voice of eSpeak differs from call to call, so one sentence alone may match nothing.
    spoken = [carry(speak(sentence)) for sentence in ("may i see the menu", *UNCLEAR_SENTENCES)]
    assert {(await recognise(frames)).text for frames in spoken} == {UNCLEAR}
    monkeypatch.setattr("antiphon.agent_worker.providers.sphinx.SCORE_THRESHOLD", -1_000.0)
    accepted = [text for frames in spoken if (text := (await recognise(frames)).text) != UNCLEAR]
    assert accepted
