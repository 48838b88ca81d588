"""Whole calls with the providers that no other journey has: greeting, tool, hand-off, end, and record."""

from collections.abc import Callable, Sequence

import pytest
from tests.doubles.deepgram_flux import DeepgramFlux
from tests.doubles.deepgram_tts import DeepgramTts
from tests.doubles.openai_answers import Answer, Answers, call, calls, say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_realtime import OpenAIRealtime
from tests.doubles.openai_responses import OpenAIResponses
from tests.doubles.openai_stt import OpenAIStt
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import Double, serve
from tests.journeys.json_api import SessionApi
from tests.journeys.providers.conftest import Publish
from tests.journeys.providers.flows import GREETING, desk
from tests.journeys.turns.conversation import Conversation, conversation

from antiphon.agent_worker.providers.options import NO_KEY

BOOKING, MANAGER, BYE = "A table for two, please.", "I want the manager.", "Good bye."
BOOKED, HERE, LEFT = "Your table is booked.", "I am the manager.", "Thank you for calling."
ANSWERS = (
    call("book_table", party_size=2, day="tomorrow", time="19:00"),
    say(BOOKED),
    call("hand_off_to_manager"),
    calls(("end_call", {}), text=LEFT),
)

Doubles = Callable[[], tuple[Sequence[Double], Answers]]


def flux_and_responses() -> tuple[Sequence[Double], Answers]:
    """Deepgram Flux, OpenAI's responses and OpenAI's speech."""
    model = OpenAIResponses(key=NO_KEY)
    return (DeepgramFlux(BOOKING, MANAGER, BYE, key=NO_KEY), model, OpenAITts(key=NO_KEY)), model.answers


def whisper_and_chat() -> tuple[Sequence[Double], Answers]:
    """OpenAI's transcription of whole sentences, OpenAI's chat and Deepgram's speech."""
    model = OpenAIChat(key=NO_KEY)
    return (OpenAIStt(BOOKING, MANAGER, BYE, key=NO_KEY), model, DeepgramTts(key=NO_KEY)), model.answers


def realtime() -> tuple[Sequence[Double], Answers]:
    """OpenAI's speech-to-speech model, which says the greetings too."""
    model = OpenAIRealtime(key=NO_KEY)
    model.utterances.extend((BOOKING, MANAGER, BYE))
    model.answers.add(say(GREETING))
    return (model,), model.answers


FLUX_AND_RESPONSES = """
  vad: silero
  stt: {use: deepgram-flux, base_url: "URL/v2/listen"}
  llm: {use: openai-responses, base_url: "URL/v1", use_websocket: false}
  tts: {use: openai, base_url: "URL/v1"}
"""
WHISPER_AND_CHAT = """
  vad: silero
  stt: {use: openai, base_url: "URL/v1"}
  llm: {use: openai, base_url: "URL/v1"}
  tts: {use: deepgram, base_url: "URL/v1/speak"}
"""
REALTIME = """
  realtime: {use: openai, base_url: "URL/v1"}
"""
CALLS: dict[str, tuple[Doubles, str, str]] = {
    "flux-and-responses": (flux_and_responses, FLUX_AND_RESPONSES, "stt"),
    "whisper-and-chat": (whisper_and_chat, WHISPER_AND_CHAT, "vad"),
    "realtime": (realtime, REALTIME, "vad"),
}
MODELS = {
    "flux-and-responses": {"flux-general-en", "gpt-4.1", "gpt-4o-mini-tts"},
    "whisper-and-chat": {"gpt-4o-mini-transcribe", "gpt-4.1", "aura-2-andromeda-en"},
    "realtime": {"gpt-4o-mini-transcribe", "gpt-realtime"},
}


def script(name: str) -> list[Answer]:
    """Return what the model answers; a realtime model says the greeting of the second agent too."""
    *before, last = ANSWERS
    return [*before, *([say(HERE)] if name == "realtime" else []), last]


async def say_and_wait_for(call: Conversation, turns: int) -> None:
    """Speak when the agent is quiet, and wait until so many turns are on record."""
    await call.caller.wait_for_quiet(timeout_seconds=60)
    await call.say("hello")
    await call.turns(turns)


@pytest.mark.parametrize("name", CALLS)
async def test_a_whole_call(api: SessionApi, publish: Publish, name: str) -> None:
    make, voice, detection = CALLS[name]
    doubles, answers = make()
    answers.add(*script(name))
    async with (
        serve(*doubles) as url,
        conversation(api, await publish(desk(name, url, voice, detection))) as call,
    ):
        for count in (1, 2, 3):
            await say_and_wait_for(call, count)
        await call.until(lambda: bool(call.of_type("session.closed")))

        [closed] = call.of_type("session.closed")
        used = {one["model"]: one for one in closed["usage"]}
        assert set(used) == MODELS[name]
        assert all(one["input_tokens"] or one["audio_seconds"] for one in used.values())
        [model] = [one for one in used.values() if one["kind"] == "llm"]
        requests = 6 if name == "realtime" else 4  # 25 tokens in and 7 out each
        assert (model["input_tokens"], model["output_tokens"]) == (25 * requests, 7 * requests)
        assert closed["reason"] == "agent_ended"
        assert call.of_type("agent.ready")[0]["greeting"] == GREETING
        heard = [(turn["user_text"], turn["assistant_text"]) for turn in call.of_type("turn.saved")]
        assert heard == [(BOOKING, BOOKED), (MANAGER, HERE), (BYE, LEFT)]
        assert [(tool["name"], tool["status"]) for tool in call.of_type("tool.completed")] == [
            ("book_table", "done"),
            ("hand_off_to_manager", "done"),
            ("end_call", "done"),
        ]
        assert [one["to_agent"] for one in call.of_type("agent.handed_off")] == ["host", "manager"]
        assert call.of_type("agent.error") == []
        assert [double.refusals for double in doubles] == [[]] * len(doubles)
        assert call.caller.audio.loudness() > 300
