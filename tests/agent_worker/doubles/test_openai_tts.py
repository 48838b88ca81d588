"""OpenAI's speech through the plugin: formats, events, and every fault."""

import asyncio
from typing import Any

import pytest
from livekit.agents import APIConnectionError, APIError, APIStatusError
from livekit.plugins import openai
from tests.agent_worker.doubles.driven import TWICE, seconds_of
from tests.doubles.faults import (
    BROKEN,
    FORBIDDEN,
    RATE_LIMITED,
    UNAUTHORIZED,
    Cut,
    Hang,
    Nonsense,
    Slow,
    Status,
    WrongRate,
)
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import KEY

TEXT = "one two three four"  # a second of the double's audio


def voice_at(url: str, **options: Any) -> openai.TTS:
    arguments = {"model": "gpt-4o-mini-tts", "voice": "ash", "response_format": "pcm"} | options
    return openai.TTS(api_key=KEY, base_url=f"{url}/v1", **arguments)


@pytest.fixture
def voice(url: str) -> openai.TTS:
    return voice_at(url)


@pytest.mark.parametrize("events", [True, False], ids=["sse", "audio"])
@pytest.mark.parametrize("form", ["pcm", "wav", "mp3"])
async def test_every_format_is_heard(speech: OpenAITts, url: str, form: str, events: bool) -> None:
    speech.streams_events = events

    seconds = await seconds_of(voice_at(url, response_format=form), TEXT)

    assert seconds == pytest.approx(1.0, abs=0.1)
    assert speech.last.body["response_format"] == form
    assert speech.refusals == []


async def test_usage_comes_with_the_last_event(voice: openai.TTS) -> None:
    metrics: list[Any] = []
    voice.on("metrics_collected", metrics.append)

    await seconds_of(voice, TEXT)

    assert metrics[0].input_tokens == 4
    assert metrics[0].output_tokens > 0
    assert metrics[0].audio_duration == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_status_is_raised_with_its_code(
    speech: OpenAITts, voice: openai.TTS, fault: Status, retried: bool
) -> None:
    speech.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await seconds_of(voice, TEXT)

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=0)], ids=str)
async def test_a_passing_fault_is_over_with_the_second_attempt(
    speech: OpenAITts, voice: openai.TTS, fault: Any
) -> None:
    speech.faults.then(fault)

    assert await seconds_of(voice, TEXT, options=TWICE) == pytest.approx(1.0, abs=0.1)
    assert len(speech.received) == 2


@pytest.mark.parametrize("events", [True, False], ids=["sse", "audio"])
async def test_a_cut_in_the_middle_is_an_error(speech: OpenAITts, voice: openai.TTS, events: bool) -> None:
    speech.streams_events = events
    speech.faults.then(Cut(after=5))

    with pytest.raises(APIConnectionError):
        await seconds_of(voice, TEXT)


async def test_a_server_that_says_nothing_is_waited_for_thirty_seconds(
    speech: OpenAITts, voice: openai.TTS
) -> None:
    """The plugin's read timeout is fixed: a fallback must have a deadline of its own."""
    speech.faults.then(Hang())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await seconds_of(voice, TEXT, options=TWICE)

    assert len(speech.received) == 1


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_events_without_audio_are_an_error(speech: OpenAITts, voice: openai.TTS, kind: Any) -> None:
    speech.faults.then(Nonsense(kind))

    with pytest.raises(APIError, match="no audio frames"):
        await seconds_of(voice, TEXT)


async def test_a_page_in_place_of_a_file_is_an_error(speech: OpenAITts, url: str) -> None:
    speech.faults.then(Nonsense("page"))

    with pytest.raises(APIError):
        await seconds_of(voice_at(url, response_format="mp3"), TEXT)


async def test_a_slow_first_block_is_waited_for(speech: OpenAITts, voice: openai.TTS) -> None:
    speech.faults.then(Slow(0.2))

    assert await seconds_of(voice, TEXT) == pytest.approx(1.0, abs=0.1)


async def test_a_wrong_rate_is_corrected_in_a_file_and_is_not_noticed_in_pcm(
    speech: OpenAITts, url: str
) -> None:
    speech.faults.then(WrongRate(8_000), WrongRate(8_000))

    assert await seconds_of(voice_at(url, response_format="wav"), TEXT) == pytest.approx(1.0, abs=0.1)
    assert await seconds_of(voice_at(url), TEXT) == pytest.approx(1 / 3, abs=0.1)  # three times too fast


async def test_what_the_service_does_not_take_is_refused(speech: OpenAITts, url: str) -> None:
    for options, message in (
        ({"voice": "nobody"}, "Invalid value for 'voice'"),
        ({"model": ""}, "you must provide a model"),
        ({"speed": 9.0}, "'speed' must be between"),
        ({"response_format": "midi"}, "response_format"),
    ):
        with pytest.raises(APIStatusError, match=message) as caught:
            await seconds_of(voice_at(url, **options), TEXT)
        assert caught.value.status_code == 400
    assert speech.spoken == []
