"""OpenAI's transcription through the plugin: of files, and of streams with ends of speech; every fault."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientError, WSServerHandshakeError
from livekit.agents import APIConnectionError, APIError, APIStatusError, stt, utils
from livekit.plugins import openai
from tests.agent_worker.doubles.driven import ONCE, SHORT, TWICE, events_of, frames, kinds, texts
from tests.doubles.audio import silence, tone
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
)
from tests.doubles.openai_stt import OpenAIStt
from tests.doubles.server import KEY, serve

FINAL = stt.SpeechEventType.FINAL_TRANSCRIPT
INTERIM = stt.SpeechEventType.INTERIM_TRANSCRIPT
RATE = 24_000
SPOKEN = silence(0.2, RATE) + tone(0.8, RATE) + silence(0.5, RATE)


@pytest.fixture
def whisper() -> OpenAIStt:
    return OpenAIStt()


@pytest.fixture
async def address(whisper: OpenAIStt) -> AsyncIterator[str]:
    async with serve(whisper) as url, utils.http_context.open():
        yield f"{url}/v1"


def recogniser_at(address: str, **options: Any) -> openai.STT:
    arguments = {"model": "gpt-4o-mini-transcribe", "api_key": KEY, "base_url": address} | options
    return openai.STT(**arguments)


@pytest.fixture
async def streaming(address: str) -> AsyncIterator[openai.STT]:
    plugin = recogniser_at(address, use_realtime=True)
    yield plugin
    await plugin.aclose()


async def heard_by(plugin: openai.STT, **options: Any) -> stt.SpeechEvent:
    return await plugin.recognize(frames(SPOKEN, RATE), **({"conn_options": ONCE} | options))


@pytest.mark.parametrize("model", ["gpt-4o-mini-transcribe", "whisper-1"])
async def test_a_recording_is_transcribed(whisper: OpenAIStt, address: str, model: str) -> None:
    whisper.utterances.append("Hello there.")

    event = await heard_by(recogniser_at(address, model=model, prompt="A restaurant."))

    assert event.alternatives[0].text == "Hello there."
    assert whisper.last.body["prompt"] == "A restaurant."
    assert whisper.last.body["file"] == "1.50 s"
    assert whisper.refusals == []


async def test_a_stream_has_interim_and_final_texts_and_the_ends_of_speech(
    whisper: OpenAIStt, streaming: openai.STT
) -> None:
    whisper.utterances.append("Hello there, friend.")

    events = await events_of(streaming, SPOKEN, rate=RATE, utterances=1, final=True)

    assert kinds(events) == ["start_of_speech", "end_of_speech", "interim_transcript", "final_transcript"]
    assert texts(events, INTERIM)[0] == "Hello"
    assert texts(events, FINAL) == ["Hello there, friend."]
    assert whisper.refusals == []


async def test_audio_of_another_rate_is_resampled(whisper: OpenAIStt, streaming: openai.STT) -> None:
    whisper.utterances.append("Hello there.")

    events = await events_of(
        streaming, tone(0.8, 48_000) + silence(0.6, 48_000), rate=48_000, utterances=1, final=True
    )

    update = whisper.last.messages[0]["session"]["audio"]["input"]
    assert update["format"] == {"type": "audio/pcm", "rate": RATE}
    assert texts(events, FINAL) == ["Hello there."]


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_status_is_raised_with_its_code(
    whisper: OpenAIStt, address: str, fault: Status, retried: bool
) -> None:
    whisper.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await heard_by(recogniser_at(address))

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=0)], ids=str)
async def test_a_passing_fault_is_over_with_the_second_attempt(
    whisper: OpenAIStt, address: str, fault: Any
) -> None:
    whisper.utterances.append("Hello there.")
    whisper.faults.then(fault)

    event = await heard_by(recogniser_at(address), conn_options=TWICE)

    assert event.alternatives[0].text == "Hello there."
    assert len(whisper.received) == 2


async def test_a_file_is_waited_for_thirty_seconds(whisper: OpenAIStt, address: str) -> None:
    """The plugin's read timeout is fixed: a fallback must have a deadline of its own."""
    whisper.faults.then(Hang())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await heard_by(recogniser_at(address))


@pytest.mark.parametrize("kind", ["not_json", "page"])
async def test_nonsense_is_a_connection_error(whisper: OpenAIStt, address: str, kind: Any) -> None:
    whisper.faults.then(Nonsense(kind))

    with pytest.raises(APIConnectionError):
        await heard_by(recogniser_at(address))


async def test_a_slow_answer_is_waited_for(whisper: OpenAIStt, address: str) -> None:
    whisper.utterances.append("Hello there.")
    whisper.faults.then(Slow(0.2))

    assert (await heard_by(recogniser_at(address))).alternatives[0].text == "Hello there."


STREAM_FAULTS = [
    UNAUTHORIZED,
    FORBIDDEN,
    RATE_LIMITED,
    BROKEN,
    Cut(after=3),
    Nonsense("page"),
    Hang(),
]


@pytest.mark.parametrize("fault", STREAM_FAULTS, ids=str)
async def test_a_stream_that_is_refused_or_cut_is_an_error(
    whisper: OpenAIStt, streaming: openai.STT, fault: Any
) -> None:
    whisper.faults.then(fault)

    with pytest.raises(Exception) as caught:  # noqa: PT011 # of several types, checked below
        await events_of(
            streaming, SPOKEN, rate=RATE, ends=False, options=SHORT if isinstance(fault, Hang) else ONCE
        )

    # the session makes an APIError of it: `must_fail_as_api`
    assert isinstance(caught.value, APIError | WSServerHandshakeError | TimeoutError | ClientError)


async def test_a_slow_stream_is_waited_for(whisper: OpenAIStt, streaming: openai.STT) -> None:
    whisper.utterances.append("Hello there.")
    whisper.faults.then(Slow(0.2))

    assert texts(await events_of(streaming, SPOKEN, rate=RATE, final=True), FINAL) == ["Hello there."]


async def test_what_the_service_does_not_take_is_refused(whisper: OpenAIStt, address: str) -> None:
    for options, status in (
        ({"api_key": "another"}, 401),
        ({"model": ""}, 400),
        ({"language": "x1"}, 400),
    ):
        with pytest.raises(APIStatusError) as caught:
            await heard_by(recogniser_at(address, **options))
        assert caught.value.status_code == status
    unknown = recogniser_at(address, model="", use_realtime=True)
    with pytest.raises(APIError, match=r"transcription\.model"):
        await events_of(unknown, SPOKEN, rate=RATE, ends=False)
