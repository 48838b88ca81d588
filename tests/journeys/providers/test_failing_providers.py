"""Calls through the real servers whose providers fail: what the caller hears, and what is on record."""

from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.deepgram_tts import DeepgramTts
from tests.doubles.faults import BROKEN, RATE_LIMITED, UNAUTHORIZED, Cut, Fault
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_realtime import OpenAIRealtime
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import Double, serve
from tests.journeys.json_api import SessionApi
from tests.journeys.providers.conftest import Publish
from tests.journeys.providers.flows import APOLOGY, GREETING, pipeline, realtime
from tests.journeys.turns.conversation import SECONDS, Conversation, conversation

from antiphon.agent_worker.providers.options import NO_KEY

LOUD = 300  # of 32767
HEARD = "Is anybody there?"


def answering(text: str) -> OpenAIChat:
    """Return a model that always says the same."""
    chat = OpenAIChat(key=NO_KEY)
    chat.answers.otherwise = say(text)
    return chat


def hearing(text: str) -> DeepgramNova:
    """Return a recogniser that always hears the same."""
    nova = DeepgramNova(key=NO_KEY)
    nova.otherwise = text
    return nova


async def answer_to(call: Conversation, words: str = "hello") -> str:
    """Say something; return what the caller then heard."""
    return " ".join(line.text for line in await call.caller.converse(words, timeout_seconds=SECONDS))


def failures(call: Conversation, kind: str) -> list[bool]:
    """Return of each error of the kind of provider, whether the call recovered from it by itself."""
    errors = call.of_type("agent.error")
    return [error["recoverable"] for error in errors if kind in error["source"].lower()]


async def closing_reason(call: Conversation) -> str:
    """Wait for the end of the session; return its reason."""
    await call.until(lambda: bool(call.of_type("session.closed")))
    return str(call.of_type("session.closed")[0]["reason"])


async def test_fallbacks_carry_a_call_whose_first_providers_all_fail(
    api: SessionApi, publish: Publish
) -> None:
    voice = OpenAITts(key=NO_KEY)
    broken: tuple[Double, ...] = (hearing(""), answering(""), DeepgramTts(key=NO_KEY))
    faults: tuple[Fault, ...] = (UNAUTHORIZED, Cut(after=0), BROKEN)
    for double, fault in zip(broken, faults, strict=True):
        double.faults.always = fault
    async with (
        serve(*broken) as first,
        serve(hearing(HEARD), answering("Yes, I am."), voice) as second,
        conversation(api, await publish(pipeline("replaced", first, second))) as call,
    ):
        assert [await answer_to(call), await answer_to(call)] == ["Yes, I am.", "Yes, I am."]
        turns = await call.turns(2)

        assert [(turn["user_text"], turn["assistant_text"]) for turn in turns] == [(HEARD, "Yes, I am.")] * 2
        assert voice.spoken == [GREETING, "Yes, I am.", "Yes, I am."]
        assert call.caller.audio.loudness() > LOUD
        assert {kind: set(failures(call, kind)) for kind in ("stt", "llm", "tts")} == {
            "stt": {True},
            "llm": {True},
            "tts": {True},
        }


async def test_apologies_until_nobody_can_hear_the_caller(api: SessionApi, publish: Publish) -> None:
    ears, chat, voice = hearing(HEARD), answering("Yes, I am."), DeepgramTts(key=NO_KEY)
    chat.faults.then(RATE_LIMITED, RATE_LIMITED, Cut(after=0), Cut(after=0))  # each attempt twice
    async with (
        serve(ears, chat, voice) as url,
        conversation(api, await publish(pipeline("alone", url))) as call,
    ):
        assert await answer_to(call) == APOLOGY
        assert await answer_to(call) == APOLOGY
        assert await answer_to(call) == "Yes, I am."  # the call went on
        assert failures(call, "llm") == [True, False, True, False]
        assert failures(call, "stt") == []

        ears.faults.always = UNAUTHORIZED
        await ears.drop()
        assert await closing_reason(call) == "error"
        assert call.caller.agent_lines[-1].text == APOLOGY
        assert voice.spoken[-1] == APOLOGY
        assert failures(call, "stt")[-1] is False


async def test_realtime_model_is_replaced_and_then_gone(api: SessionApi, publish: Publish) -> None:
    models = (OpenAIRealtime(key=NO_KEY), OpenAIRealtime(key=NO_KEY))
    long = "I am the first model and I shall not come to the end of my sentence, whatever you do."
    for model, answers in zip(
        models, ((GREETING, "I can hear you.", long), ("I am the second.",)), strict=True
    ):
        model.utterances.extend([HEARD] * 3)
        model.answers.add(*(say(answer) for answer in answers))
    async with (
        serve(models[0]) as first,
        serve(models[1]) as second,
        conversation(api, await publish(realtime("realtime", first, second))) as call,
    ):
        assert call.of_type("agent.ready")[0]["greeting"] == GREETING
        assert await answer_to(call) == "I can hear you."
        [turn] = await call.turns(1)
        assert (turn["user_text"], turn["assistant_text"]) == (HEARD, "I can hear you.")

        models[0].faults.always = UNAUTHORIZED
        await call.until_it_answers("hello")
        await models[0].drop()  # in the middle of its answer
        await call.until(
            lambda: any(t["assistant_text"] == "I am the second." for t in call.of_type("turn.saved"))
        )
        assert failures(call, "realtime") == [True]

        models[1].faults.always = UNAUTHORIZED
        await models[1].drop()
        assert await closing_reason(call) == "error"
        assert call.caller.agent_lines[-1].text == APOLOGY
        assert failures(call, "realtime")[-1] is False
