"""Providers that take over from one another, through the installed plugins against doubles on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from livekit.agents import APIConnectOptions, APIError, tts
from tests.agent_worker.doubles.driven import reply_of, seconds_of, until
from tests.agent_worker.providers.voice_flows import with_voice
from tests.doubles.faults import BROKEN, FORBIDDEN, RATE_LIMITED, UNAUTHORIZED, Cut, Fault, Hang, Nonsense
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import KEY, serve

from antiphon.agent_worker.providers import fallbacks
from antiphon.agent_worker.providers.loaded import import_plugins
from antiphon.agent_worker.providers.voices import session_options

FAULTS = [UNAUTHORIZED, FORBIDDEN, RATE_LIMITED, BROKEN, Hang(), Cut(after=0), Nonsense("page")]
OF_SESSION = APIConnectOptions(max_retry=1, retry_interval=0.01, timeout=10)
DEADLINE = 60


class Servers:
    """Two servers with the API of OpenAI, and the options of a session that uses both."""

    def __init__(self) -> None:
        self.chats = (OpenAIChat(), OpenAIChat())
        self.voices = (OpenAITts(), OpenAITts())
        self.urls: list[str] = []

    def options(self, *, seconds: float = 2) -> dict[str, Any]:
        """Return the options of a session whose second server is the fallback of the first."""
        first, second = (
            f'{{use: openai, base_url: "{url}/v1", api_key: "{{secret.DOUBLE}}"' for url in self.urls
        )
        chain = f"{first}, timeout_seconds: {seconds}, fallbacks: [{second}}}]}}"
        bound = with_voice(f"stt: {second}}}\nllm: {chain}\ntts: {chain}")
        import_plugins(bound.flow)
        return session_options(bound, {})


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    made = Servers()
    async with AsyncExitStack() as stack:
        for chat, voice in zip(made.chats, made.voices, strict=True):
            made.urls.append(await stack.enter_async_context(serve(chat, voice)))
        yield made


def errors_of(provider: Any) -> list[Any]:
    """Collect the errors of a provider, as the session records them."""
    errors: list[Any] = []
    provider.on("error", errors.append)
    return errors


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_the_next_model_answers_when_one_fails(servers: Servers, fault: Fault) -> None:
    first, second = servers.chats
    first.faults.always = fault
    second.answers.add(say("Hello from the second."))
    model = servers.options(seconds=0.5)["llm"]
    errors = errors_of(model)
    assert (await reply_of(model, options=OF_SESSION)).text == "Hello from the second."
    assert [error.recoverable for error in errors] == [True]


async def test_the_first_model_answers_again_when_it_recovers(servers: Servers) -> None:
    first, second = servers.chats
    first.faults.then(BROKEN)
    first.answers.otherwise = say("Hello from the first.")
    second.answers.otherwise = say("Hello from the second.")
    model = servers.options()["llm"]
    assert (await reply_of(model, options=OF_SESSION)).text == "Hello from the second."
    await until(lambda: model._status[0].available)
    assert (await reply_of(model, options=OF_SESSION)).text == "Hello from the first."


async def test_a_model_that_stays_away_is_one_error_on_record(servers: Servers) -> None:
    first, second = servers.chats
    first.faults.always = BROKEN
    second.answers.otherwise = say("Hello from the second.")
    model = servers.options()["llm"]
    errors = errors_of(model)
    for _ in range(3):
        await reply_of(model, options=OF_SESSION)
        await until(model._status[0].recovering_task.done)
    assert [error.recoverable for error in errors] == [True]


async def test_when_all_models_fail_each_was_asked_once(servers: Servers) -> None:
    for chat in servers.chats:
        chat.faults.always = UNAUTHORIZED
    model = servers.options()["llm"]
    errors = errors_of(model)
    with pytest.raises(APIError, match="all LLMs failed"):
        await reply_of(model, options=OF_SESSION)
    assert [error.recoverable for error in errors] == [True, True, False]


async def test_an_answer_that_was_begun_is_not_given_twice(servers: Servers) -> None:
    first, second = servers.chats
    first.faults.then(Cut(after=3))
    first.answers.otherwise = say("one two three four")
    second.answers.otherwise = say("Hello from the second.")
    with pytest.raises(APIError):
        await reply_of(servers.options()["llm"], options=OF_SESSION)
    assert second.received == []


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_the_next_voice_speaks_when_one_fails(servers: Servers, fault: Fault) -> None:
    first, second = servers.voices
    first.faults.always = fault
    voice = servers.options(seconds=0.5)["tts"]
    errors = errors_of(voice)
    assert await seconds_of(voice, "one two three four", options=OF_SESSION) == pytest.approx(1, abs=0.2)
    assert second.spoken == ["one two three four"]
    assert [error.recoverable for error in errors][:1] == [True]


async def test_a_voice_that_is_slow_to_begin_is_replaced(servers: Servers) -> None:
    """The plugin waits for 30 s between two pieces of audio."""
    first, second = servers.voices
    first.faults.always = Hang()
    voice = servers.options(seconds=0.3)["tts"]
    async with asyncio.timeout(15):
        await seconds_of(voice, "one two", options=OF_SESSION)
    assert second.spoken == ["one two"]


async def test_the_first_voice_speaks_again_when_it_recovers(servers: Servers) -> None:
    first, second = servers.voices
    first.faults.then(BROKEN)
    voice = servers.options()["tts"]
    await seconds_of(voice, "one", options=OF_SESSION)
    await until(lambda: voice._status[0].available)
    await seconds_of(voice, "two", options=OF_SESSION)
    assert second.spoken == ["one"]
    assert first.spoken[-1] == "two"


async def test_the_offline_voice_can_be_a_fallback(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
    servers.voices[0].faults.always = BROKEN
    url = servers.urls[0]
    chain = f'{{use: openai, base_url: "{url}/v1", api_key: "{{secret.DOUBLE}}"'
    bound = with_voice(f"stt: {chain}}}\nllm: {chain}}}\ntts: {chain}, fallbacks: [offline]}}")
    import_plugins(bound.flow)
    voice: tts.TTS[Any] = session_options(bound, {})["tts"]
    assert await seconds_of(voice, "Good evening, this is the table desk.", options=OF_SESSION) > 1


async def test_a_key_that_a_server_repeats_is_masked(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-that-is-wrong-1234"
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", secret)

    def repeats(refused: Any) -> Any:
        from aiohttp import web

        error = {"message": f"Incorrect API key provided: {secret}", "code": "invalid_api_key"}
        return web.json_response({"error": error}, status=401)

    for double in (*servers.chats, *servers.voices):
        monkeypatch.setattr(type(double), "error", lambda _self, refused: repeats(refused))
    options = servers.options()
    found = errors_of(options["llm"])
    with pytest.raises(APIError):
        await reply_of(options["llm"], options=OF_SESSION)
    assert found
    assert "[secret]" in str(found[0].error)
    assert not [error for error in found if secret in f"{error.error!s} {error.error!r}"]
    assert secret not in caplog.text


def test_the_waits_have_an_end() -> None:
    assert fallbacks.ATTEMPT_SECONDS <= 10
    assert fallbacks.SPEECH_SECONDS <= 5
