"""What a caller hears after each fault of a provider, what is on record, and whether the call goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from livekit import rtc
from tests.agent_worker.doubles.driven import DEADLINE
from tests.agent_worker.doubles.spoken_call import APOLOGY, RATE, SpokenCall, spoken_call
from tests.doubles.audio import silence, tone
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.deepgram_tts import DeepgramTts
from tests.doubles.faults import (
    BROKEN,
    FORBIDDEN,
    RATE_LIMITED,
    UNAUTHORIZED,
    Cut,
    Fault,
    Hang,
    Nonsense,
    Slow,
)
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.server import KEY, serve

from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer

Calls = Callable[..., AbstractAsyncContextManager[SpokenCall]]
SPOKEN = tone(0.4, RATE) + silence(0.3, RATE)


class Servers:
    """Two sets of providers; the second is the fallback of the first."""

    def __init__(self) -> None:
        self.novas = (DeepgramNova(), DeepgramNova())
        self.chats = (OpenAIChat(), OpenAIChat())
        self.auras = (DeepgramTts(), DeepgramTts())
        self.urls: list[str] = []
        for name, nova, chat in zip(("first", "second"), self.novas, self.chats, strict=True):
            nova.otherwise = "Hello?"
            chat.answers.otherwise = say(f"I am the {name}.")

    def voice(
        self, *, fallback: bool, hangs: str | None = None, seconds: dict[str, float] | None = None
    ) -> str:
        """Return the content of a flow's `voice:`; what hangs gets a short deadline."""
        deadlines = {hangs: 1.0} | (seconds or {})
        return "\n".join(
            f"{kind}: {self._chain(name, path, fallback, deadlines.get(kind, 10.0))}"
            for kind, name, path in (
                ("stt", "deepgram", "/v1/listen"),
                ("llm", "openai", "/v1"),
                ("tts", "deepgram", "/v1/speak"),
            )
        )

    def _chain(self, name: str, path: str, fallback: bool, seconds: float) -> str:
        first, second = (
            f'{{use: {name}, base_url: "{url}{path}", api_key: "{{secret.DOUBLE}}"' for url in self.urls
        )
        more = f", fallbacks: [{second}}}]" if fallback else ""
        return f"{first}, timeout_seconds: {seconds}{more}}}"


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    made = Servers()
    async with AsyncExitStack() as stack:
        for doubles in zip(made.novas, made.chats, made.auras, strict=True):
            made.urls.append(await stack.enter_async_context(serve(*doubles)))
        yield made


@pytest.fixture
def calls(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> Calls:
    return partial(spoken_call, bus, nats_server.url, tmp_path)


async def test_a_call_without_a_fault(servers: Servers, calls: Calls) -> None:
    async with calls(servers.voice(fallback=False)) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert (call.heard, call.said) == (["Hello?"], ["I am the first."])
        assert servers.auras[0].spoken == ["I am the first."]
        assert call.loudspeaker.played[0] == pytest.approx(1.0, abs=0.1)
        assert await call.recorded_errors() == []


LLM_FAULTS: list[Fault] = [
    UNAUTHORIZED,
    FORBIDDEN,
    RATE_LIMITED,
    BROKEN,
    Hang(),
    Cut(after=0),
    Nonsense(),
    Nonsense("page"),
]


@pytest.mark.parametrize("fault", LLM_FAULTS, ids=str)
async def test_a_model_that_fails_is_an_apology_and_the_call_goes_on(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    chat = servers.chats[0]
    chat.faults.then(fault, fault)  # the attempt and its repetition
    async with calls(servers.voice(fallback=False, hangs=_hanging(fault, "llm"))) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert call.said == [APOLOGY]
        assert [error.recoverable for error in await call.recorded_errors()][-1] is False
        chat.faults = type(chat.faults)()
        call.speak(SPOKEN)
        await call.answered(2)
        assert call.said == [APOLOGY, "I am the first."]
        assert call.closed == []


@pytest.mark.parametrize("fault", LLM_FAULTS, ids=str)
async def test_a_model_that_fails_is_replaced_by_its_fallback(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    servers.chats[0].faults.always = fault
    async with calls(servers.voice(fallback=True, hangs=_hanging(fault, "llm"))) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert call.said == ["I am the second."]
        assert [error.recoverable for error in await call.recorded_errors()] == [True]
        assert call.closed == []


TTS_FAULTS: list[Fault] = [
    UNAUTHORIZED,
    FORBIDDEN,
    RATE_LIMITED,
    BROKEN,
    Hang(),
    Hang(after=1),
    Cut(after=1),
    Nonsense(),
    Nonsense("wrong_schema"),
]


@pytest.mark.parametrize("fault", TTS_FAULTS, ids=str)
async def test_a_voice_that_fails_is_replaced_by_its_fallback(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    servers.auras[0].faults.always = fault
    async with calls(servers.voice(fallback=True, hangs=_hanging(fault, "tts"))) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert call.said == ["I am the first."]
        assert servers.auras[1].spoken == ["I am the first."]
        assert [error.recoverable for error in await call.recorded_errors()][:1] == [True]


@pytest.mark.parametrize("fault", [UNAUTHORIZED, BROKEN, Hang(), Cut(after=1)], ids=str)
async def test_a_voice_that_fails_is_an_apology_in_the_offline_voice(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    servers.auras[0].faults.always = fault
    async with calls(servers.voice(fallback=False, hangs=_hanging(fault, "tts"))) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert APOLOGY in call.said
        assert call.loudspeaker.played[-1] > 0.5
        assert [error.recoverable for error in await call.recorded_errors()][-1] is False
        assert call.closed == []


STT_FAULTS: list[Fault] = [
    UNAUTHORIZED,
    FORBIDDEN,
    RATE_LIMITED,
    BROKEN,
    Hang(),
    Cut(after=0),
    Cut(after=2),
    Nonsense("page"),
]


@pytest.mark.parametrize("fault", STT_FAULTS, ids=str)
async def test_a_recogniser_that_fails_is_replaced_by_its_fallback(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    servers.novas[0].faults.always = fault
    async with calls(servers.voice(fallback=True, hangs=_hanging(fault, "stt"))) as call:
        call.speak(SPOKEN)  # once: the fallback hears what was said to the first
        await call.answered(1)

        assert (call.heard, call.said) == (["Hello?"], ["I am the first."])
        assert len(servers.novas[1].received) == 1
        assert [error.recoverable for error in await call.recorded_errors()] == [True]


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=2)], ids=str)
async def test_a_recogniser_that_connects_again_is_heard_again(
    servers: Servers, calls: Calls, fault: Fault
) -> None:
    servers.novas[0].faults.then(fault)
    async with calls(servers.voice(fallback=False)) as call:
        await _speak_until_answered(call)

        assert call.said[0] == "I am the first."
        assert [error.recoverable for error in await call.recorded_errors()] == [True]


@pytest.mark.parametrize("fault", [Nonsense(), Nonsense("wrong_schema"), None], ids=str)
async def test_a_recogniser_that_gives_no_words_is_replaced_by_its_fallback(
    servers: Servers, calls: Calls, fault: Fault | None
) -> None:
    servers.novas[0].faults.always = fault
    servers.novas[0].otherwise = ""
    async with calls(servers.voice(fallback=True, hangs="stt"), detector=True) as call:
        await _say_until_answered(call)

        assert set(call.heard) == {"Hello?"}
        assert call.said[0] == "I am the first."
        errors = await call.recorded_errors()
        assert [(error.recoverable, "gave no words" in error.message) for error in errors] == [(True, True)]


async def test_a_recogniser_that_gives_no_words_is_connected_again_after_an_apology(
    servers: Servers, calls: Calls
) -> None:
    ears = servers.novas[0]
    ears.faults.then(Nonsense())  # of the first connection
    async with calls(servers.voice(fallback=False, hangs="stt"), detector=True) as call:
        await _say_until_answered(call)
        assert call.said == [APOLOGY]
        await _say_until_answered(call, 2)

        assert call.said[1] == "I am the first."
        assert [error.recoverable for error in await call.recorded_errors()] == [True]
        assert call.closed == []


async def test_slow_providers_are_waited_for(servers: Servers, calls: Calls) -> None:
    for double in (servers.novas[0], servers.chats[0], servers.auras[0]):
        double.faults.always = Slow(0.1)
    async with calls(servers.voice(fallback=False)) as call:
        call.speak(SPOKEN)
        await call.answered(1)

        assert call.said == ["I am the first."]
        assert await call.recorded_errors() == []


async def _speak_until_answered(call: SpokenCall) -> None:
    """Speak again and again: what a recogniser without a fallback has taken before it fails is lost."""
    async with asyncio.timeout(DEADLINE):
        while not call.said:
            call.speak(SPOKEN)
            await asyncio.sleep(0.2)


async def _say_until_answered(call: SpokenCall, count: int = 1) -> None:
    """Say a sentence, and say it again each time that it is not answered."""
    rate, pcm = await asyncio.to_thread(synthesize, "hello, is anybody there?")
    resampler = rtc.AudioResampler(rate, RATE)
    parts = [*resampler.push(bytearray(pcm)), *resampler.flush()]
    sentence = b"".join(bytes(part.data) for part in parts)
    async with asyncio.timeout(DEADLINE):
        while len(call.said) < count:
            call.speak(sentence + silence(1.0, RATE))
            await asyncio.sleep(2.5)


def _hanging(fault: Fault, kind: str) -> str | None:
    return kind if isinstance(fault, Hang) or fault == Nonsense("wrong_schema") else None
