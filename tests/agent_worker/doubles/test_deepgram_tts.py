"""Deepgram's speech through the plugin: text as it is written, whole texts, and every fault."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError
from livekit.plugins import deepgram
from tests.agent_worker.doubles.driven import SHORT, TWICE, seconds_of, seconds_of_stream
from tests.doubles.deepgram_tts import DeepgramTts
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
from tests.doubles.server import KEY, serve

TEXT = "one two three four"  # a second of the double's audio
FAULTS = [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)]


@pytest.fixture
def aura() -> DeepgramTts:
    return DeepgramTts()


@pytest.fixture
async def address(aura: DeepgramTts) -> AsyncIterator[str]:
    async with serve(aura) as url:
        yield f"{url}/v1/speak"


def voice_at(address: str, http: aiohttp.ClientSession, **options: Any) -> deepgram.TTS:
    arguments = {"api_key": KEY, "base_url": address} | options
    return deepgram.TTS(http_session=http, **arguments)


@pytest.fixture
async def voice(address: str, http: aiohttp.ClientSession) -> AsyncIterator[deepgram.TTS]:
    plugin = voice_at(address, http)
    yield plugin
    await plugin.aclose()


async def test_text_is_spoken_as_it_is_written(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    seconds = await seconds_of_stream(voice, "one two ", "three four")

    assert seconds == pytest.approx(1.0, abs=0.1)
    assert aura.spoken == ["one two three four"]
    kinds = [message["type"] for message in aura.last.messages]
    assert kinds[-1] == "Flush"
    assert set(kinds[:-1]) == {"Speak"}
    assert aura.last.query["sample_rate"] == ["24000"]
    assert aura.refusals == []


async def test_a_connection_is_used_again(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    for text in ("one", "two", "three"):
        await seconds_of_stream(voice, text)

    assert aura.spoken == ["one", "two", "three"]
    assert len(aura.received) == 1


async def test_a_whole_text_is_spoken_at_once(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    assert await seconds_of(voice, TEXT) == pytest.approx(1.0, abs=0.1)
    assert aura.last.query["container"] == ["none"]


@pytest.mark.parametrize("streamed", [True, False], ids=["websocket", "http"])
@pytest.mark.parametrize(("fault", "retried"), FAULTS, ids=lambda value: str(getattr(value, "code", value)))
async def test_a_status_is_raised_with_its_code(
    aura: DeepgramTts, voice: deepgram.TTS, fault: Status, retried: bool, streamed: bool
) -> None:
    aura.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await (seconds_of_stream if streamed else seconds_of)(voice, TEXT)

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=1), Cut(after=2)], ids=str)
async def test_a_passing_fault_is_over_with_the_second_attempt(
    aura: DeepgramTts, voice: deepgram.TTS, fault: Any
) -> None:
    aura.faults.then(fault)

    assert await seconds_of_stream(voice, TEXT, options=TWICE) == pytest.approx(1.0, abs=0.1)
    assert aura.spoken[-1] == TEXT


@pytest.mark.parametrize("streamed", [True, False], ids=["websocket", "http"])
async def test_a_cut_in_the_middle_is_an_error(
    aura: DeepgramTts, voice: deepgram.TTS, streamed: bool
) -> None:
    aura.faults.then(Cut(after=6))

    with pytest.raises(APIError):
        await (seconds_of_stream if streamed else seconds_of)(voice, TEXT)


@pytest.mark.parametrize("after", [0, 1, 5], ids=["handshake", "silent", "middle"])
async def test_a_server_that_stops_times_out(aura: DeepgramTts, voice: deepgram.TTS, after: int) -> None:
    aura.faults.then(Hang(after))

    with pytest.raises(APITimeoutError):
        await seconds_of_stream(voice, TEXT, options=SHORT)


async def test_a_whole_text_is_waited_for_thirty_seconds(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    """The plugin's timeout of a request is fixed: a fallback must have a deadline of its own."""
    aura.faults.then(Hang())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await seconds_of(voice, TEXT, options=SHORT)


async def test_text_that_is_no_json_is_an_error(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    aura.faults.then(Nonsense())

    with pytest.raises(APIConnectionError):
        await seconds_of_stream(voice, TEXT)


async def test_messages_of_another_schema_time_out(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    aura.faults.then(Nonsense("wrong_schema"))

    with pytest.raises(APIError):  # they are logged; no audio comes
        await seconds_of_stream(voice, TEXT, options=SHORT)


async def test_a_slow_first_block_is_waited_for(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    aura.faults.then(Slow(0.2))

    assert await seconds_of_stream(voice, TEXT) == pytest.approx(1.0, abs=0.1)


async def test_a_wrong_rate_is_not_noticed(aura: DeepgramTts, voice: deepgram.TTS) -> None:
    aura.faults.then(WrongRate(8_000))

    assert await seconds_of_stream(voice, TEXT) == pytest.approx(1 / 3, abs=0.1)  # three times too fast


async def test_what_the_service_does_not_take_is_refused(
    aura: DeepgramTts, address: str, http: aiohttp.ClientSession
) -> None:
    for options, status in (
        ({"api_key": "another"}, 401),
        ({"model": "nobody"}, 400),
        ({"sample_rate": 12_345}, 400),
        ({"encoding": "midi"}, 400),
    ):
        with pytest.raises(APIStatusError) as caught:
            await seconds_of_stream(voice_at(address, http, **options), TEXT)
        assert caught.value.status_code == status
    with pytest.raises(APIStatusError) as caught:
        await seconds_of(voice_at(address, http), "x" * 2001)
    assert caught.value.status_code == 413
    assert aura.spoken == []
