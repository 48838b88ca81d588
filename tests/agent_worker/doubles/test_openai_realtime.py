"""OpenAI's speech-to-speech sessions through the plugin: audio, transcripts, tools, turns, and faults."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from livekit.agents import APIConnectOptions, APIError, function_tool, llm
from livekit.plugins import openai
from tests.agent_worker.doubles.driven import DEADLINE, frames, until
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
    WrongRate,
)
from tests.doubles.openai_answers import Answer, call, say
from tests.doubles.openai_realtime import OpenAIRealtime
from tests.doubles.server import KEY, serve

RATE = 24_000
TWICE = APIConnectOptions(max_retry=1, retry_interval=0.01, timeout=DEADLINE)
IMPATIENT = APIConnectOptions(max_retry=1, retry_interval=0.01, timeout=0.5)
SPOKEN = tone(0.6, RATE) + silence(0.7, RATE)


@pytest.fixture
def realtime() -> OpenAIRealtime:
    return OpenAIRealtime()


@pytest.fixture
async def address(realtime: OpenAIRealtime) -> AsyncIterator[str]:
    async with serve(realtime) as url:
        yield f"{url}/v1"


@pytest.fixture
def model(address: str, http: aiohttp.ClientSession) -> openai.realtime.RealtimeModel:
    return model_at(address, http)


def model_at(address: str, http: aiohttp.ClientSession, **options: Any) -> openai.realtime.RealtimeModel:
    place: dict[str, Any] = {"api_key": KEY, "base_url": address, "conn_options": TWICE}
    return openai.realtime.RealtimeModel(model="gpt-realtime", http_session=http, **(place | options))


@pytest.fixture
async def session(model: openai.realtime.RealtimeModel) -> AsyncIterator[openai.realtime.RealtimeSession]:
    opened = model.session()
    yield opened
    await opened.aclose()


@function_tool
async def opening_hours(day: str) -> str:
    """Return the opening hours.

    Args:
        day: Of the week.
    """
    return f"{day}: six to eleven"


async def heard(generation: llm.GenerationCreatedEvent) -> tuple[str, float]:
    """Return the text and the seconds of audio of a response with one message."""
    async with asyncio.timeout(DEADLINE):
        message = await anext(aiter(generation.message_stream))
        text = "".join([str(piece) async for piece in message.text_stream])
        return text, sum([frame.duration async for frame in message.audio_stream])


def reconnections(session: openai.realtime.RealtimeSession) -> list[Any]:
    """Return the list of reconnections: what is asked for before one is complete is discarded by it."""
    seen: list[Any] = []
    session.on("session_reconnected", seen.append)
    return seen


async def test_an_answer_is_audio_with_its_transcript(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.answers.add(say("Hello there my friend."))
    metrics: list[Any] = []
    session.on("metrics_collected", metrics.append)

    text, seconds = await heard(await session.generate_reply())
    await until(lambda: any(getattr(one, "output_tokens", 0) for one in metrics))

    assert text == "Hello there my friend."
    assert seconds == pytest.approx(1.0, abs=0.01)
    assert realtime.last.query["model"] == ["gpt-realtime"]
    assert realtime.refusals == []


async def test_the_service_detects_the_turn_and_answers_it(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.utterances.append("When are you open?")
    realtime.answers.add(say("From six."))
    noticed: list[str] = []
    transcripts: list[llm.InputTranscriptionCompleted] = []
    generations: list[llm.GenerationCreatedEvent] = []
    session.on("input_speech_started", lambda _: noticed.append("started"))
    session.on("input_speech_stopped", lambda _: noticed.append("stopped"))
    session.on("input_audio_transcription_completed", transcripts.append)
    session.on("generation_created", generations.append)

    for frame in frames(SPOKEN, RATE):
        session.push_audio(frame)
    await until(lambda: bool(generations))

    assert (await heard(generations[0]))[0] == "From six."
    assert noticed == ["started", "stopped"]
    assert [one.transcript for one in transcripts if one.is_final] == ["When are you open?"]
    assert next(one.transcript for one in transcripts if not one.is_final) == "When"
    assert realtime.refusals == []


async def test_a_function_call_and_its_result(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.answers.add(call("opening_hours", day="monday"), say("From six."))
    await session.update_tools([opening_hours])

    generation = await session.generate_reply()
    async with asyncio.timeout(DEADLINE):
        [asked] = [one async for one in generation.function_stream]
    context = session.chat_ctx.copy()
    context.items.append(
        llm.FunctionCallOutput(call_id=asked.call_id, name=asked.name, output="six", is_error=False)
    )
    await session.update_chat_ctx(context)
    text, _ = await heard(await session.generate_reply())

    assert (asked.name, asked.arguments) == ("opening_hours", '{"day": "monday"}')
    assert text == "From six."
    assert [item["type"] for item in realtime.sessions[0].conversation.items] == [
        "function_call",
        "function_call_output",
        "message",
    ]
    assert realtime.refusals == []


async def test_the_callers_voice_interrupts_an_answer(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.pace_seconds = 0.05
    realtime.utterances.append("Stop.")
    realtime.answers.add(say("one two three four five six seven eight nine ten " * 20), say("Yes?"))
    metrics: list[Any] = []
    session.on("metrics_collected", metrics.append)
    generation = await session.generate_reply()

    for frame in frames(SPOKEN, RATE):
        session.push_audio(frame)
    text, _ = await heard(generation)
    await until(lambda: any(getattr(one, "cancelled", False) for one in metrics))

    assert len(text.split()) < 200


async def test_an_interruption_by_the_client_cancels_the_response(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.pace_seconds = 0.05
    realtime.answers.add(say("one two three four five six seven eight nine ten " * 20))
    generation = await session.generate_reply()

    session.interrupt()
    text, _ = await heard(generation)

    assert len(text.split()) < 200
    assert realtime.refusals == []


async def test_without_turn_detection_the_client_commits(
    realtime: OpenAIRealtime, address: str, http: aiohttp.ClientSession
) -> None:
    realtime.utterances.append("When are you open?")
    realtime.answers.add(say("From six."))
    session = model_at(address, http, turn_detection=None).session()
    for frame in frames(SPOKEN, RATE):
        session.push_audio(frame)

    session.commit_audio()
    text, _ = await heard(await session.generate_reply())
    await session.aclose()

    assert text == "From six."
    assert realtime.refusals == []


async def test_a_response_that_fails_is_an_error_and_the_session_goes_on(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    realtime.answers.add(Answer("One", failed="server_error"), say("Hello."))
    errors: list[llm.RealtimeModelError] = []
    session.on("error", errors.append)

    await heard(await session.generate_reply())
    await until(lambda: bool(errors))

    assert errors[0].recoverable
    assert (await heard(await session.generate_reply()))[0] == "Hello."


async def test_a_quota_that_is_used_up_ends_the_session(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel
) -> None:
    realtime.answers.add(Answer("One", failed="insufficient_quota"))
    errors: list[llm.RealtimeModelError] = []
    session = model.session()
    session.on("error", errors.append)

    await heard(await session.generate_reply())
    await until(lambda: any(not one.recoverable for one in errors))

    assert len(realtime.received) == 1
    with pytest.raises(APIError):
        await session.aclose()


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=1), Cut(after=3)], ids=str)
async def test_a_passing_fault_is_over_with_the_next_connection(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel, fault: Any
) -> None:
    realtime.faults.then(fault)
    realtime.answers.otherwise = say("Hello.")
    errors: list[llm.RealtimeModelError] = []
    session = model.session()
    session.on("error", errors.append)
    reconnected = reconnections(session)
    session.send_event({"type": "input_audio_buffer.clear"})

    await until(lambda: len(realtime.received) == 2)
    if isinstance(fault, Cut):
        await until(lambda: bool(reconnected))
    text, _ = await heard(await session.generate_reply())
    await session.aclose()

    assert text == "Hello."
    assert [one.recoverable for one in errors] == [True]


async def test_a_cut_in_the_middle_of_an_answer_ends_it_and_connects_again(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel
) -> None:
    realtime.faults.then(Cut(after=9))
    realtime.answers.add(say("one two three four"), say("Hello."))
    session = model.session()
    reconnected = reconnections(session)

    text, _ = await heard(await session.generate_reply())
    await until(lambda: bool(reconnected))

    assert len(text.split()) < 4
    assert (await heard(await session.generate_reply()))[0] == "Hello."
    await session.aclose()


@pytest.mark.parametrize("fault", [UNAUTHORIZED, FORBIDDEN, BROKEN, Hang(), Nonsense("page")], ids=str)
async def test_a_fault_that_stays_ends_the_session_after_the_retries(
    realtime: OpenAIRealtime, address: str, http: aiohttp.ClientSession, fault: Any
) -> None:
    """A wrong key is retried like any other fault: the plugin sees only that the handshake failed."""
    realtime.faults.always = fault
    errors: list[llm.RealtimeModelError] = []
    session = model_at(address, http, conn_options=IMPATIENT if isinstance(fault, Hang) else TWICE).session()
    session.on("error", errors.append)

    await until(lambda: len(errors) == 2)

    assert [one.recoverable for one in errors] == [True, False]
    assert len(realtime.received) == 2
    with pytest.raises(APIError):
        await session.aclose()


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_nonsense_ends_the_session(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel, kind: Any
) -> None:
    realtime.faults.always = Nonsense(kind)
    errors: list[llm.RealtimeModelError] = []
    session = model.session()
    session.on("error", errors.append)

    await until(lambda: any(not one.recoverable for one in errors))

    with pytest.raises(Exception):  # noqa: B017, PT011 # a JSON or a key error, as it comes
        await session.aclose()


async def test_a_slow_handshake_is_waited_for(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel
) -> None:
    realtime.faults.then(Slow(0.2))
    realtime.answers.add(say("Hello."))
    session = model.session()

    assert (await heard(await session.generate_reply()))[0] == "Hello."
    await session.aclose()
    assert len(realtime.received) == 1


async def test_a_wrong_rate_is_not_noticed(
    realtime: OpenAIRealtime, model: openai.realtime.RealtimeModel
) -> None:
    realtime.faults.always = WrongRate(8_000)
    realtime.answers.add(say("one two three four"))
    session = model.session()

    _, seconds = await heard(await session.generate_reply())
    await session.aclose()

    assert seconds == pytest.approx(1 / 3, abs=0.01)  # three times too fast


async def test_what_the_service_does_not_take_is_an_error_event(
    realtime: OpenAIRealtime, session: openai.realtime.RealtimeSession
) -> None:
    errors: list[llm.RealtimeModelError] = []
    session.on("error", errors.append)
    wrong_rate = {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}
    for event in (
        {"type": "session.update", "session": {"type": "realtime", "audio": wrong_rate}},
        {"type": "input_audio_buffer.append", "audio": "no base64!"},
        {"type": "conversation.item.delete", "item_id": "nothing"},
        {"type": "response.stop"},
    ):
        session.send_event(event)

    await until(lambda: len(errors) == 4)

    assert "'rate' must be 24000" in realtime.refusals[0]
    assert all(one.recoverable for one in errors)
