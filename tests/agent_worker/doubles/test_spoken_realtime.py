"""A call with a realtime model, and what its caller hears after each fault of the model."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from livekit.agents import UserStateChangedEvent
from tests.agent_worker.doubles.driven import until
from tests.agent_worker.doubles.spoken_call import APOLOGY, RATE, SpokenCall, spoken_call
from tests.doubles.audio import silence, tone
from tests.doubles.faults import UNAUTHORIZED, Cut, Fault, Hang
from tests.doubles.openai_answers import call, say
from tests.doubles.openai_realtime import OpenAIRealtime
from tests.doubles.server import KEY, serve

from antiphon.agent_worker.call import speak
from antiphon.agent_worker.flow.call import Silence
from antiphon.agent_worker.silence import prompt_on_silence
from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port

Calls = Callable[..., AbstractAsyncContextManager[SpokenCall]]
SPOKEN = tone(0.6, RATE) + silence(0.7, RATE)
SLOW = """\
agents:
  host: {instructions: Be brief., greeting: Hello there., tools: [slow]}
tools:
  slow:
    python: "tests.agent_worker.tools.functions:slow"
    filler: {say: "I look for {seconds}.", after_seconds: 0.3}
"""
NOBODY = Cut(after=-1)  # marks an address at which nothing listens
MIDDLE = Cut(after=18)  # after some words of the first answer: the session takes nine messages


class Models:
    """Two realtime models; the second is the fallback of the first."""

    def __init__(self) -> None:
        self.doubles = (OpenAIRealtime(), OpenAIRealtime())
        for name, double in zip(("first", "second"), self.doubles, strict=True):
            double.answers.otherwise = say(f"I am the {name} model and I have a lot to say today.")
        self.urls: list[str] = []

    def voice(self, *, fallback: bool, at: str | None = None) -> str:
        """Return the content of a flow's `voice:`; `at` is the address of the first."""
        first, second = (
            f'{{use: openai, base_url: "{url}/v1", api_key: "{{secret.DOUBLE}}", timeout_seconds: 1'
            for url in (at or self.urls[0], self.urls[1])
        )
        return f"realtime: {first}{f', fallbacks: [{second}}}]' if fallback else ''}}}"


@pytest.fixture
async def models(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Models]:
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    made = Models()
    async with AsyncExitStack() as stack:
        for double in made.doubles:
            made.urls.append(await stack.enter_async_context(serve(double)))
        yield made


@pytest.fixture
def calls(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> Calls:
    return partial(spoken_call, bus, nats_server.url, tmp_path, turns="")


async def test_a_call_without_a_fault(models: Models, calls: Calls) -> None:
    models.doubles[0].utterances.append("Hello?")
    async with calls(models.voice(fallback=False)) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert (call.heard, call.said) == (
            ["Hello?"],
            ["I am the first model and I have a lot to say today."],
        )
        assert call.loudspeaker.played[0] == pytest.approx(3.25, abs=0.2)
        assert await call.recorded_errors() == []


async def test_a_model_says_the_greeting_and_the_prompts_of_silence(models: Models, calls: Calls) -> None:
    models.doubles[0].answers.add(say("Hello there."), say("Are you still there?"))
    async with calls(models.voice(fallback=False)) as call:
        speak(call.session, "Hello there.")
        await call.answered(1)
        prompter = prompt_on_silence(call.session, Silence(after_seconds=60, say="?"), "Are you still there?")
        prompter.on_user_state(UserStateChangedEvent(old_state="listening", new_state="away"))
        await call.answered(2)

        asked = [
            message["response"]["instructions"]
            for message in models.doubles[0].last.messages
            if message["type"] == "response.create"
        ]
        assert len(asked) == 2
        assert "Hello there." in asked[0]
        assert "Are you still there?" in asked[1]


async def test_a_model_says_the_filler_line_of_a_slow_tool(models: Models, calls: Calls) -> None:
    models.doubles[0].answers.add(call("slow", seconds=4), say("I am looking."), say("It is done."))
    async with calls(models.voice(fallback=False), agents=SLOW) as talk:
        talk.speak(SPOKEN)
        await talk.answered(2)

        assert talk.said == ["I am looking.", "It is done."]
        filler, _ = (
            message["response"]["instructions"]
            for message in models.doubles[0].last.messages
            if message["type"] == "response.create"
        )
        assert "I look for 4." in filler


@pytest.mark.parametrize("fault", [UNAUTHORIZED, Hang(), NOBODY], ids=str)
async def test_a_model_that_cannot_be_reached_is_replaced_by_its_fallback(
    models: Models, calls: Calls, fault: Fault
) -> None:
    models.doubles[0].faults.always = fault
    nowhere = f"http://127.0.0.1:{free_port()}" if fault is NOBODY else None
    async with calls(models.voice(fallback=True, at=nowhere)) as call:
        await until(lambda: bool(models.doubles[1].sessions))
        call.speak(SPOKEN)
        await call.answered(1)

        assert call.said == ["I am the second model and I have a lot to say today."]
        assert [error.recoverable for error in await call.recorded_errors()] == [True]
        assert call.closed == []


async def test_an_answer_that_breaks_off_is_given_again_by_the_fallback(models: Models, calls: Calls) -> None:
    models.doubles[0].faults.then(MIDDLE)
    async with calls(models.voice(fallback=True)) as call:
        call.speak(SPOKEN)
        await until(lambda: any("second" in text for text in call.said))

        assert len(models.doubles[0].received) == 1
        assert [error.recoverable for error in await call.recorded_errors()] == [True]
        assert call.closed == []


async def test_a_model_without_a_fallback_connects_again(models: Models, calls: Calls) -> None:
    models.doubles[0].faults.then(MIDDLE)
    async with calls(models.voice(fallback=False)) as call:
        call.speak(SPOKEN)
        # while the agent speaks for the first time, the framework lets nobody interrupt it
        await until(lambda: len(models.doubles[0].sessions) == 2 and call.session.agent_state == "listening")
        call.speak(SPOKEN)
        await until(lambda: any("today" in text for text in call.said))

        assert [error.recoverable for error in await call.recorded_errors()] == [True]
        assert call.closed == []


@pytest.mark.parametrize("fallback", [False, True], ids=["alone", "with a fallback"])
async def test_a_call_whose_models_are_gone_ends_after_the_apology(
    models: Models, calls: Calls, fallback: bool
) -> None:
    for double in models.doubles:
        double.faults.always = UNAUTHORIZED
    async with calls(models.voice(fallback=fallback)) as call:
        await until(lambda: bool(call.closed))

        assert call.closed[0].reason.value == "error"
        assert call.said == [APOLOGY]
        assert call.loudspeaker.played[-1] > 0.5  # the offline voice
        assert [error.recoverable for error in await call.recorded_errors()][-1] is False
