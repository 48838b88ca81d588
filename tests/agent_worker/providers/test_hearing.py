"""What the agent hears of a real sound: Opus, Silero, PocketSphinx and the gate, as in a call."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import stt
from numpy.typing import NDArray

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.providers import build_voice, prewarm
from antiphon.agent_worker.providers.sphinx import UNCLEAR, SphinxSTT

Samples = NDArray[np.float64]
Speak = Callable[[str], Samples]
Carry = Callable[[Samples], list[rtc.AudioFrame]]
RATE = 22_050  # Hz

UNDERSTOOD = [
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
NOT_UNDERSTOOD = [
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
async def hear(booking: Flow, loaded: dict[str, Any]) -> AsyncIterator[Callable[..., Any]]:
    """Every final transcript of a sound, by way of the voice activity detector."""
    listener: stt.STT[Any] = build_voice(booking, loaded)["stt"]

    async def hear(frames: list[rtc.AudioFrame]) -> list[stt.SpeechData]:
        stream = listener.stream()
        for frame in frames:
            stream.push_frame(frame)
        stream.end_input()
        async with asyncio.timeout(20), stream:
            final = stt.SpeechEventType.FINAL_TRANSCRIPT
            return [event.alternatives[0] async for event in stream if event.type == final]

    yield hear
    await listener.aclose()


@pytest.fixture
def recognise(booking: Flow, loaded: dict[str, Any]) -> Callable[..., Any]:
    """The transcript of a sound that is taken for speech, whatever it is."""
    listener = build_voice(booking, loaded)["stt"].wrapped_stt
    assert isinstance(listener, SphinxSTT)

    async def recognise(frames: list[rtc.AudioFrame]) -> stt.SpeechData:
        return (await listener.recognize(frames)).alternatives[0]

    return recognise


@pytest.mark.parametrize("sentence", UNDERSTOOD)
async def test_a_promised_sentence_is_heard(sentence: str, speak: Speak, carry: Carry, hear: Any) -> None:
    (heard,) = await hear(carry(speak(sentence)))
    assert heard.text == sentence
    assert heard.confidence > 0.5


@pytest.mark.parametrize("sentence", NOT_UNDERSTOOD)
async def test_other_words_are_unclear(sentence: str, speak: Speak, carry: Carry, hear: Any) -> None:
    heard = await hear(carry(speak(sentence)))
    assert heard
    assert all(part.text == UNCLEAR and part.confidence < 0.5 for part in heard)


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
async def test_a_noise_is_not_a_sentence(name: str, carry: Carry, hear: Any) -> None:
    silence = np.zeros(RATE)
    noise = NOISES[name]
    for level in (0.1, 0.5):
        sound = np.concatenate([silence, noise / np.abs(noise).max() * level, silence])
        assert all(part.text == UNCLEAR for part in await hear(carry(sound))), name


@pytest.mark.parametrize("name", NOISES)
async def test_a_noise_that_is_taken_for_speech_is_unclear(name: str, carry: Carry, recognise: Any) -> None:
    noise = NOISES[name]
    heard = await recognise(carry(noise / np.abs(noise).max() * 0.5))
    assert (heard.text, heard.confidence < 0.5) == (UNCLEAR, True), name


async def test_silence_is_not_a_turn(carry: Carry, hear: Any) -> None:
    assert await hear(carry(np.zeros(3 * RATE))) == []


async def test_what_was_heard_before_changes_nothing(speak: Speak, carry: Carry, recognise: Any) -> None:
    first = await recognise(carry(speak("yes please")))
    await recognise(carry(speak("the quick brown fox jumps over the lazy dog")))
    again = await recognise(carry(speak("yes please")))
    assert first.text == again.text == "yes please"
    assert abs(first.confidence - again.confidence) < 0.1


async def test_the_gate_is_what_keeps_other_words_out(
    speak: Speak, carry: Carry, recognise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = carry(speak("may i see the menu"))
    assert (await recognise(frames)).text == UNCLEAR
    monkeypatch.setattr("antiphon.agent_worker.providers.recogniser.SCORE_THRESHOLD", -1_000.0)
    assert (await recognise(frames)).text == "may i speak to the manager"
