"""The journeys of every provider: the same against the doubles and, with keys, against the real services.

`make journeys-live` runs this file with `ANTIPHON_LIVE`; the names of tests hold the service that they need.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from livekit.agents import APIError, APIStatusError, function_tool, stt
from tests.agent_worker.doubles.driven import (
    DEADLINE,
    STT_RATE,
    Reply,
    frames,
    reply_of,
    seconds_of,
    seconds_of_stream,
    texts,
)
from tests.agent_worker.doubles.services import LIVE, Services, services, spoken_sentence

FINAL = stt.SpeechEventType.FINAL_TRANSCRIPT
MODELS = ["openai", "openai-responses"]
RECOGNISERS = ["deepgram", "deepgram-flux", "openai"]
VOICES = ["openai", "deepgram"]


@pytest.fixture
async def provided() -> AsyncIterator[Services]:
    async with services() as made:
        yield made


@function_tool
async def weather(city: str) -> str:
    """Return the weather of a city.

    Args:
        city: Its name.
    """
    return f"It is sunny in {city}."


@pytest.mark.parametrize("name", MODELS)
async def test_a_model_answers_in_pieces_and_calls_a_tool(provided: Services, name: str) -> None:
    model = provided.llm(name)

    reply = await reply_of(model, "Say in one short sentence that the answer is blue.")
    assert "blue" in reply.text.lower()
    assert len(reply.pieces) > 2
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0

    reply = await reply_of(model, "What is the weather in Paris? Use the tool.", tools=[weather])
    assert [one.name for one in reply.calls] == ["weather"]
    assert json.loads(reply.calls[0].arguments) == {"city": "Paris"}
    await model.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_a_model_refuses_a_wrong_key(provided: Services, name: str) -> None:
    reply = Reply()
    with pytest.raises(APIStatusError) as caught:
        await reply_of(provided.llm(name, wrong_key=True), reply=reply)
    assert (caught.value.status_code, caught.value.retryable, reply.text) == (401, False, "")


@pytest.mark.parametrize("name", RECOGNISERS)
async def test_a_recogniser_understands_a_sentence(provided: Services, name: str) -> None:
    recogniser = provided.stt(name)
    events: list[stt.SpeechEvent] = []
    async with asyncio.timeout(DEADLINE), recogniser.stream() as stream:
        feeding = asyncio.create_task(_feed(stream))
        async for event in stream:
            events.append(event)
            if "people" in " ".join(texts(events, FINAL)).lower():
                break
        await feeding
    heard = " ".join(texts(events, FINAL)).lower()
    assert "table" in heard
    assert "two" in heard or "2" in heard
    assert stt.SpeechEventType.START_OF_SPEECH in [event.type for event in events]


async def _feed(stream: stt.RecognizeStream) -> None:
    for frame in frames(spoken_sentence(), STT_RATE):
        stream.push_frame(frame)
        await asyncio.sleep(frame.duration if LIVE else 0)


@pytest.mark.parametrize("name", RECOGNISERS)
async def test_a_recogniser_refuses_a_wrong_key(provided: Services, name: str) -> None:
    from tests.agent_worker.doubles.driven import events_of

    with pytest.raises(Exception) as caught:  # noqa: PT011 # OpenAI's stream raises aiohttp's own error
        await events_of(provided.stt(name, wrong_key=True), spoken_sentence())
    assert isinstance(caught.value, APIError) or "401" in str(caught.value)


@pytest.mark.parametrize("name", VOICES)
async def test_a_voice_speaks_a_sentence(provided: Services, name: str) -> None:
    voice = provided.tts(name)
    assert 0.8 < await seconds_of(voice, "Good morning, this is a test.") < 8
    if voice.capabilities.streaming:
        assert 0.8 < await seconds_of_stream(voice, "Good morning, ", "this is a test.") < 8
    await voice.aclose()


@pytest.mark.parametrize("name", VOICES)
async def test_a_voice_refuses_a_wrong_key(provided: Services, name: str) -> None:
    with pytest.raises(APIStatusError) as caught:
        await seconds_of(provided.tts(name, wrong_key=True), "Good morning.")
    assert (caught.value.status_code, caught.value.retryable) == (401, False)


async def test_a_realtime_model_of_openai_answers_with_audio() -> None:
    async with services(realtime=True) as provided, asyncio.timeout(DEADLINE):
        session = provided.realtime().session()
        generation = await session.generate_reply(instructions="Say that the answer is blue.")
        message = await anext(aiter(generation.message_stream))
        text = "".join([str(piece) async for piece in message.text_stream])
        seconds = sum([frame.duration async for frame in message.audio_stream])
        await session.aclose()
    assert "blue" in text.lower()
    assert seconds > 0.5
