"""Deepgram's live transcription through the plugin: interim, final, words, ends of speech, every fault."""

import asyncio
from typing import Any

import aiohttp
import pytest
from livekit.agents import APIConnectionError, APIStatusError, stt
from livekit.plugins import deepgram
from tests.agent_worker.doubles.driven import (
    ONCE,
    SHORT,
    TWICE,
    events_of,
    frames,
    kinds,
    texts,
    until,
)
from tests.doubles.audio import silence, tone
from tests.doubles.deepgram_nova import CONFIDENCE, DeepgramNova
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
from tests.doubles.server import KEY

INTERIM = stt.SpeechEventType.INTERIM_TRANSCRIPT
FINAL = stt.SpeechEventType.FINAL_TRANSCRIPT
END = stt.SpeechEventType.END_OF_SPEECH
RATE = 16_000
SPOKEN = silence(0.2, RATE) + tone(0.8, RATE) + silence(0.3, RATE)


def recogniser_at(url: str, http: aiohttp.ClientSession, **options: Any) -> deepgram.STT:
    arguments = {"api_key": KEY, "base_url": f"{url}/v1/listen"} | options
    return deepgram.STT(http_session=http, **arguments)


@pytest.fixture
def recogniser(url: str, http: aiohttp.ClientSession) -> deepgram.STT:
    return recogniser_at(url, http)


async def test_interim_texts_grow_and_a_final_one_ends_the_speech(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.utterances.append("Hello there, friend.")

    events = await events_of(recogniser, SPOKEN)

    assert kinds(events) == ["start_of_speech", "interim_transcript", "final_transcript", "end_of_speech"]
    assert texts(events, INTERIM) == ["Hello", "Hello there,", "Hello there, friend."]
    assert texts(events, FINAL) == ["Hello there, friend."]
    assert nova.refusals == []
    assert {"type": "CloseStream"} in nova.last.messages


async def test_each_word_has_its_time(nova: DeepgramNova, recogniser: deepgram.STT) -> None:
    nova.utterances.append("Hello there, friend.")

    events = await events_of(recogniser, SPOKEN)

    heard = next(event.alternatives[0] for event in events if event.type is FINAL)
    assert heard.words == ["Hello", "there,", "friend."]
    assert [round(float(word.start_time or 0), 2) for word in heard.words or ()] == [0.2, 0.45, 0.7]
    assert [word.confidence for word in heard.words or ()] == [CONFIDENCE] * 3
    assert (round(heard.start_time, 2), round(heard.end_time, 2)) == (0.2, 0.95)


async def test_two_utterances_are_two_turns(nova: DeepgramNova, recogniser: deepgram.STT) -> None:
    nova.utterances.extend(["First one.", "Second one."])

    events = await events_of(recogniser, SPOKEN + SPOKEN, utterances=2)

    assert texts(events, FINAL) == ["First one.", "Second one."]
    assert kinds(events).count("end_of_speech") == 2


async def test_without_endpointing_the_end_is_the_end_of_the_utterance(
    nova: DeepgramNova, url: str, http: aiohttp.ClientSession
) -> None:
    nova.utterances.append("Hello there.")
    recogniser = recogniser_at(url, http, endpointing_ms=0, utterance_end_ms=1000)

    events = await events_of(recogniser, tone(0.6, RATE) + silence(1.2, RATE))

    assert [event.type for event in events].count(END) == 1
    assert nova.last.query["utterance_end_ms"] == ["1000"]
    assert nova.refusals == []


async def test_audio_of_another_rate_is_resampled_before_it_is_sent(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.utterances.append("Hello there.")

    events = await events_of(recogniser, tone(0.6, 48_000) + silence(0.4, 48_000), rate=48_000)

    assert nova.last.query["sample_rate"] == ["16000"]
    assert nova.last.audio_bytes / 2 / RATE == pytest.approx(1.0, abs=0.1)
    assert texts(events, FINAL) == ["Hello there."]


async def test_without_interim_results_only_the_final_text_comes(
    nova: DeepgramNova, url: str, http: aiohttp.ClientSession
) -> None:
    nova.utterances.append("Hello there.")

    events = await events_of(recogniser_at(url, http, interim_results=False, punctuate=False), SPOKEN)

    assert texts(events, INTERIM) == []
    assert texts(events, FINAL) == ["hello there"]


async def test_a_recording_is_transcribed_at_once(nova: DeepgramNova, recogniser: deepgram.STT) -> None:
    nova.utterances.append("Hello there.")

    event = await recogniser.recognize(frames(SPOKEN), conn_options=ONCE)

    assert event.alternatives[0].text == "Hello there."
    assert event.alternatives[0].words == ["Hello", "there."]


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_refused_connection_is_raised_with_its_status_and_without_the_key(
    nova: DeepgramNova, recogniser: deepgram.STT, fault: Status, retried: bool
) -> None:
    nova.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await events_of(recogniser, SPOKEN)

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=1)], ids=str)
async def test_a_passing_fault_is_over_with_the_second_connection(
    nova: DeepgramNova, recogniser: deepgram.STT, fault: Any
) -> None:
    nova.otherwise = "Hello there."
    nova.faults.then(fault)
    errors: list[stt.STTError] = []
    recogniser.on("error", errors.append)
    async with recogniser.stream(conn_options=TWICE) as stream:
        while len(nova.received) < 2:
            stream.push_frame(frames(tone(0.02, RATE))[0])
            await asyncio.sleep(0.01)
        for frame in frames(SPOKEN):
            stream.push_frame(frame)
        event = await anext(event async for event in stream if event.type is FINAL)

    assert event.alternatives[0].text == "Hello there."
    assert [one.recoverable for one in errors] == [True]


async def test_a_handshake_that_hangs_is_a_connection_error(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.faults.then(Hang())

    with pytest.raises(APIConnectionError, match="failed to connect"):
        await events_of(recogniser, SPOKEN, options=SHORT)


async def test_a_reset_during_the_handshake_is_tried_again_by_the_http_client(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.utterances.append("Hello there.")
    nova.faults.then(Cut(after=0))

    assert texts(await events_of(recogniser, SPOKEN), FINAL) == ["Hello there."]
    assert len(nova.received) == 2


async def test_a_cut_in_the_middle_of_speech_keeps_what_was_heard(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.utterances.append("Hello there, friend.")
    nova.faults.then(Cut(after=3))
    events: list[stt.SpeechEvent] = []

    with pytest.raises((APIConnectionError, APIStatusError)):
        await events_of(recogniser, tone(0.8, RATE), events=events, ends=False)

    assert texts(events, INTERIM)[:1] == ["Hello"]


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_nonsense_is_logged_and_nothing_is_heard(
    nova: DeepgramNova, recogniser: deepgram.STT, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nova.utterances.append("Hello there.")
    nova.faults.then(Nonsense(kind))

    events: list[stt.SpeechEvent] = []

    reading = asyncio.create_task(events_of(recogniser, SPOKEN, events=events))
    await until(lambda: nova.received != [] and {"type": "CloseStream"} in nova.last.messages)
    await until(lambda: "failed to process deepgram message" in caplog.text)
    reading.cancel()

    assert kinds(events) == []


async def test_a_page_in_place_of_a_websocket_is_an_error(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.faults.then(Nonsense("page"))

    with pytest.raises((APIConnectionError, APIStatusError)):
        await events_of(recogniser, SPOKEN)


async def test_a_slow_handshake_is_waited_for(nova: DeepgramNova, recogniser: deepgram.STT) -> None:
    nova.utterances.append("Hello there.")
    nova.faults.then(Slow(0.2))

    assert texts(await events_of(recogniser, SPOKEN), FINAL) == ["Hello there."]


async def test_a_stream_without_audio_is_closed_by_the_service(
    nova: DeepgramNova, recogniser: deepgram.STT
) -> None:
    nova.idle_seconds = 0.2  # the plugin sends KeepAlive every five seconds, the service waits ten

    with pytest.raises(APIStatusError) as caught:
        await events_of(recogniser, b"", ends=False)

    assert caught.value.status_code == 1011
    assert {"type": "KeepAlive"} in nova.last.messages


async def test_what_the_service_does_not_take_is_refused(
    nova: DeepgramNova, url: str, http: aiohttp.ClientSession
) -> None:
    for options, status in (
        ({"api_key": "another"}, 401),
        ({"model": "nova-9"}, 400),
        ({"sample_rate": 4_000}, 400),
        ({"utterance_end_ms": 200}, 400),
        ({"utterance_end_ms": 1000, "interim_results": False}, 400),
    ):
        with pytest.raises(APIStatusError) as caught:
            await events_of(recogniser_at(url, http, **options), SPOKEN)
        assert caught.value.status_code == status
    assert len(nova.refusals) == 5
