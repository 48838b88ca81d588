"""Deepgram's Flux through the plugin: turns, eager ends of turns, and every fault."""

from typing import Any

import aiohttp
import pytest
from livekit.agents import APIConnectionError, APIStatusError, stt
from livekit.plugins import deepgram
from tests.agent_worker.doubles.driven import ONCE, SHORT, TWICE, events_of, kinds, texts, until
from tests.doubles.audio import silence, tone
from tests.doubles.deepgram_flux import DeepgramFlux
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
from tests.doubles.server import KEY, serve

INTERIM = stt.SpeechEventType.INTERIM_TRANSCRIPT
EAGER = stt.SpeechEventType.PREFLIGHT_TRANSCRIPT
FINAL = stt.SpeechEventType.FINAL_TRANSCRIPT
RATE = 16_000
SPOKEN = tone(0.8, RATE) + silence(0.5, RATE)


@pytest.fixture
def flux() -> DeepgramFlux:
    return DeepgramFlux()


@pytest.fixture
async def address(flux: DeepgramFlux) -> Any:
    async with serve(flux) as url:
        yield f"{url}/v2/listen"


def recogniser_at(address: str, http: aiohttp.ClientSession, **options: Any) -> deepgram.STTv2:
    arguments = {"api_key": KEY, "base_url": address} | options
    return deepgram.STTv2(http_session=http, **arguments)


@pytest.fixture
def recogniser(address: str, http: aiohttp.ClientSession) -> deepgram.STTv2:
    return recogniser_at(address, http)


async def test_a_turn_starts_grows_and_ends(flux: DeepgramFlux, recogniser: deepgram.STTv2) -> None:
    flux.utterances.append("I want a table.")

    events = await events_of(recogniser, SPOKEN)

    assert kinds(events) == ["start_of_speech", "interim_transcript", "final_transcript", "end_of_speech"]
    assert texts(events, INTERIM)[0] == "I"
    assert texts(events, FINAL) == ["I want a table."]
    heard = next(event.alternatives[0] for event in events if event.type is FINAL)
    assert heard.words == ["I", "want", "a", "table."]
    assert [round(float(word.start_time or 0), 2) for word in heard.words or ()] == [0.0, 0.25, 0.5, 0.75]
    assert flux.refusals == []


async def test_audio_of_another_rate_is_resampled_before_it_is_sent(
    flux: DeepgramFlux, recogniser: deepgram.STTv2
) -> None:
    flux.utterances.append("Hello there.")

    events = await events_of(recogniser, tone(0.8, 48_000) + silence(0.5, 48_000), rate=48_000)

    assert flux.last.query["sample_rate"] == ["16000"]
    assert texts(events, FINAL) == ["Hello there."]
    assert flux.refusals == []


async def test_an_eager_end_comes_before_the_end(
    flux: DeepgramFlux, address: str, http: aiohttp.ClientSession
) -> None:
    flux.utterances.append("I want a table.")
    recogniser = recogniser_at(address, http, eager_eot_threshold=0.4, eot_threshold=0.8)

    events = await events_of(recogniser, SPOKEN)

    assert texts(events, EAGER) == ["I want a table."]
    assert flux.last.query["eager_eot_threshold"] == ["0.4"]


async def test_a_caller_who_goes_on_resumes_the_turn(
    flux: DeepgramFlux, address: str, http: aiohttp.ClientSession
) -> None:
    flux.utterances.append("I want a table for two at eight.")
    recogniser = recogniser_at(address, http, eager_eot_threshold=0.4)
    pause = silence(0.25, RATE)

    events = await events_of(recogniser, tone(0.4, RATE) + pause + tone(0.6, RATE) + silence(0.5, RATE))

    assert [event.type.value for event in events].count("preflight_transcript") == 2
    assert texts(events, FINAL) == ["I want a table for two at eight."]
    resumed = kinds(events)
    assert resumed.index("preflight_transcript") < resumed.index("final_transcript")
    assert resumed[resumed.index("preflight_transcript") + 1] == "interim_transcript"


async def test_options_are_changed_in_the_stream(flux: DeepgramFlux, recogniser: deepgram.STTv2) -> None:
    async with recogniser.stream(conn_options=ONCE):
        await until(lambda: len(flux.received) == 1)
        while not flux.last.messages:
            recogniser.update_options(keyterm=["Antiphon"])
            await _turn()

    assert flux.last.messages[0] == {"type": "Configure", "keyterms": ["Antiphon"]}
    assert len(flux.received) == 1


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_refused_connection_is_raised_with_its_status(
    flux: DeepgramFlux, recogniser: deepgram.STTv2, fault: Status, retried: bool
) -> None:
    flux.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await events_of(recogniser, SPOKEN)

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)


async def test_a_passing_fault_is_over_with_the_second_connection(
    flux: DeepgramFlux, recogniser: deepgram.STTv2
) -> None:
    flux.utterances.append("Hello there.")
    flux.faults.then(BROKEN)

    assert texts(await events_of(recogniser, SPOKEN, options=TWICE), FINAL) == ["Hello there."]


async def test_a_cut_in_the_middle_of_a_turn_keeps_what_was_heard(
    flux: DeepgramFlux, recogniser: deepgram.STTv2
) -> None:
    flux.utterances.append("Hello there, friend.")
    flux.faults.then(Cut(after=4))
    events: list[stt.SpeechEvent] = []

    with pytest.raises((APIConnectionError, APIStatusError)):
        await events_of(recogniser, tone(0.8, RATE), events=events, ends=False)

    assert texts(events, INTERIM)[0] == "Hello"


async def test_a_handshake_that_hangs_is_a_connection_error(
    flux: DeepgramFlux, recogniser: deepgram.STTv2
) -> None:
    flux.faults.then(Hang())

    with pytest.raises(APIConnectionError, match="failed to connect"):
        await events_of(recogniser, SPOKEN, options=SHORT)


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_nonsense_is_logged_and_nothing_is_heard(
    flux: DeepgramFlux, recogniser: deepgram.STTv2, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flux.utterances.append("Hello there.")
    flux.faults.then(Nonsense(kind))

    events = await events_of(recogniser, SPOKEN)

    assert kinds(events) == []
    assert "failed to process deepgram message" in caplog.text


async def test_a_page_in_place_of_a_websocket_is_an_error(
    flux: DeepgramFlux, recogniser: deepgram.STTv2
) -> None:
    flux.faults.then(Nonsense("page"))

    with pytest.raises((APIConnectionError, APIStatusError)):
        await events_of(recogniser, SPOKEN)


async def test_a_slow_handshake_is_waited_for(flux: DeepgramFlux, recogniser: deepgram.STTv2) -> None:
    flux.utterances.append("Hello there.")
    flux.faults.then(Slow(0.2))

    assert texts(await events_of(recogniser, SPOKEN), FINAL) == ["Hello there."]


async def test_what_the_service_does_not_take_is_refused(
    flux: DeepgramFlux, address: str, http: aiohttp.ClientSession
) -> None:
    for options, status in (
        ({"api_key": "another"}, 401),
        ({"model": "nova-3"}, 400),
        ({"eot_threshold": 0.95}, 400),
        ({"eager_eot_threshold": 0.1}, 400),
        ({"language_hint": ["de"]}, 400),
    ):
        with pytest.raises(APIStatusError) as caught:
            await events_of(recogniser_at(address, http, **options), SPOKEN)
        assert caught.value.status_code == status


async def _turn() -> None:
    import asyncio

    await asyncio.sleep(0.01)
