"""What the caller hears when a provider and its fallbacks fail, and how the call goes on or ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, CloseEvent, stt
from livekit.agents._exceptions import APIConnectionError
from tests.agent_worker.doubles.driven import until
from tests.agent_worker.providers.voice_flows import AGENTS, with_voice
from tests.doubles.faults import BROKEN, UNAUTHORIZED, Fault, Hang, Nonsense
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import KEY, serve
from tests.fixtures.silent_voice import SilentPlayer

from antiphon.agent_worker.apology import MOST_FAILURES, ApologisingSession
from antiphon.agent_worker.flow.model import DEFAULT_APOLOGY
from antiphon.agent_worker.providers.loaded import import_plugins
from antiphon.agent_worker.providers.voices import session_options

APOLOGY = "Sorry, this line is broken."
GOOD_BYE = "Please call again. Good bye."
ENDING = f"ending: {{on_failure: {GOOD_BYE}}}\n"
DEADLINE = 60


class Call:
    """A session whose providers are doubles: what was said, and what was heard of it."""

    def __init__(self, chat: OpenAIChat, voice: OpenAITts, url: str) -> None:
        self.chat = chat
        self.voice = voice
        self.url = url
        self.said: list[str] = []
        self.errors: list[Any] = []
        self.closed: list[CloseEvent] = []
        self.player = SilentPlayer()
        self.played: list[float] = []
        self.session: AgentSession[Any]

    async def start(
        self, apology: str = f"apology: {APOLOGY}", language: str = "en", *, more: str = ""
    ) -> None:
        """Start the session; its agent has not spoken yet."""
        server = (
            f'{{use: openai, base_url: "{self.url}/v1", api_key: "{{secret.DOUBLE}}", timeout_seconds: 1}}'
        )
        voice = f"vad: silero\nstt: {server}\nllm: {server}\ntts: {server}\n{apology}"
        bound = with_voice(voice, f"{AGENTS}language: {language}\n{more}")
        import_plugins(bound.flow)
        options = session_options(bound, {}) | {"vad": None, "stt": None}
        options["turn_handling"] = {"turn_detection": "manual"}
        self.session = ApologisingSession(bound, **options)
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("error", self.errors.append)
        self.session.on("close", self.closed.append)
        self.player.on("playback_finished", lambda event: self.played.append(event.playback_position))
        self.session.output.audio = self.player
        await self.session.start(Agent(id="host", instructions="Be brief."))

    def _on_item(self, event: Any) -> None:
        if event.item.type == "message" and event.item.role == "assistant":
            self.said.append(event.item.text_content)


@pytest.fixture
async def call(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    chat, voice = OpenAIChat(), OpenAITts()
    async with serve(chat, voice) as url:
        made = Call(chat, voice, url)
        yield made
        await made.session.aclose()


@pytest.mark.parametrize("fault", [UNAUTHORIZED, BROKEN, Hang(), Nonsense("page")], ids=repr)
async def test_the_caller_hears_the_apology_when_the_model_fails(call: Call, fault: Fault) -> None:
    call.chat.faults.always = fault
    await call.start()
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: call.said == [APOLOGY])
    assert call.voice.spoken == [APOLOGY]
    assert call.played[-1] > 0.5
    assert [event.error.recoverable for event in call.errors][-1] is False
    assert call.closed == []


async def test_the_call_goes_on_when_the_model_answers_again(call: Call) -> None:
    call.chat.faults.then(UNAUTHORIZED)
    call.chat.answers.otherwise = say("Hello again.")
    await call.start()
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: call.said == [APOLOGY])
    call.session.generate_reply(user_input="Are you there?")
    await until(lambda: call.said == [APOLOGY, "Hello again."])


@pytest.mark.parametrize("fault", [UNAUTHORIZED, Hang()], ids=repr)
async def test_the_apology_is_heard_when_the_voice_fails(call: Call, fault: Fault) -> None:
    call.voice.faults.always = fault
    call.chat.answers.otherwise = say("Hello.")
    await call.start()
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: APOLOGY in call.said and max(call.played, default=0) > 0.5)  # by the offline voice
    assert call.closed == []


async def test_the_apology_is_heard_when_model_and_voice_fail(call: Call) -> None:
    call.voice.faults.always = call.chat.faults.always = UNAUTHORIZED
    await call.start()
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: APOLOGY in call.said and max(call.played, default=0) > 0.5)


async def test_a_flow_without_an_apology_has_one(call: Call) -> None:
    call.chat.faults.always = UNAUTHORIZED
    await call.start(apology="")
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: call.said == [DEFAULT_APOLOGY])


async def test_the_call_ends_after_the_apology_when_failures_go_on(call: Call) -> None:
    call.chat.faults.always = UNAUTHORIZED
    await call.start()
    for number in range(1, MOST_FAILURES + 2):
        call.session.generate_reply(user_input="Hello?")
        await until(lambda: len(call.said) == number)  # noqa: B023 - awaited here
    await until(lambda: bool(call.closed))
    assert call.closed[0].reason.value == "error"
    assert call.said == [APOLOGY] * (MOST_FAILURES + 1)


async def test_an_answer_between_failures_starts_the_count_again(call: Call) -> None:
    call.chat.answers.otherwise = say("Fine.")
    await call.start()
    for number in range(1, MOST_FAILURES + 2):
        call.chat.faults.then(UNAUTHORIZED, None)
        for part in (0, 1):
            call.session.generate_reply(user_input="Hello?")
            await until(lambda: len(call.said) == 2 * number - 1 + part)  # noqa: B023 - awaited here
    assert call.said == [APOLOGY, "Fine."] * (MOST_FAILURES + 1)
    assert call.closed == []


async def test_the_call_ends_when_it_cannot_hear(call: Call) -> None:
    await call.start()
    error = stt.STTError(timestamp=0, label="deepgram", error=APIConnectionError("gone"), recoverable=False)
    for _ in range(MOST_FAILURES + 1):
        call.session._on_error(error)
    await until(lambda: bool(call.closed))
    assert call.said == [APOLOGY]
    assert call.closed[0].reason.value == "error"


async def test_an_error_from_which_a_provider_recovers_is_not_heard(call: Call) -> None:
    call.chat.faults.then(BROKEN)
    call.chat.answers.otherwise = say("Hello.")
    await call.start()
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: call.said == ["Hello."])
    assert [event.error.recoverable for event in call.errors] == [True]


async def test_the_offline_voice_takes_the_language_of_the_flow(call: Call) -> None:
    call.voice.faults.always = UNAUTHORIZED
    call.chat.answers.otherwise = say("Hallo.")
    await call.start(language="de-DE")
    call.session.generate_reply(user_input="Hallo?")
    await until(lambda: APOLOGY in call.said)


async def test_a_failed_greeting_waits_for_its_apology(call: Call) -> None:
    call.voice.faults.always = UNAUTHORIZED
    await call.start()
    await call.session.say("Welcome.")
    assert isinstance(call.session, ApologisingSession)
    async with asyncio.timeout(DEADLINE):
        await call.session.apologised()
    assert call.played[-1] > 0.5


async def fail_until_it_ends(call: Call) -> None:
    for number in range(1, MOST_FAILURES + 2):
        call.session.generate_reply(user_input="Hello?")
        await until(lambda: len(call.said) >= number)  # noqa: B023 - awaited here
    await until(lambda: bool(call.closed))
    assert call.closed[0].reason.value == "error"


async def test_the_last_words_of_a_call_that_cannot_go_on_are_those_of_the_flow(call: Call) -> None:
    call.chat.faults.always = UNAUTHORIZED
    await call.start(more=ENDING)
    await fail_until_it_ends(call)
    assert call.said == [APOLOGY] * MOST_FAILURES + [GOOD_BYE]
    assert call.voice.spoken[-1] == GOOD_BYE


async def test_the_last_words_are_heard_in_the_offline_voice_when_the_voice_fails_too(call: Call) -> None:
    call.chat.faults.always = UNAUTHORIZED
    await call.start(more=ENDING)
    for number in range(1, MOST_FAILURES + 1):
        call.session.generate_reply(user_input="Hello?")
        await until(lambda: len(call.said) == number)  # noqa: B023 - awaited here
    call.voice.faults.always = UNAUTHORIZED
    call.session.generate_reply(user_input="Hello?")
    await until(lambda: bool(call.closed))
    assert call.said[-1] == GOOD_BYE
    assert call.played[-1] > 0.5
    assert len(call.voice.spoken) == MOST_FAILURES


async def test_the_last_words_follow_an_apology_that_is_being_spoken(call: Call) -> None:
    await call.start(more=ENDING)
    error = stt.STTError(timestamp=0, label="deepgram", error=APIConnectionError("gone"), recoverable=False)
    for _ in range(MOST_FAILURES + 1):
        call.session._on_error(error)
    await until(lambda: bool(call.closed))
    assert call.said == [APOLOGY, GOOD_BYE]


async def test_a_call_whose_greeting_fails_ends_with_the_last_words(call: Call) -> None:
    call.voice.faults.always = UNAUTHORIZED
    await call.start(more=ENDING)
    await call.session.say("Welcome.")
    assert isinstance(call.session, ApologisingSession)
    async with asyncio.timeout(DEADLINE):
        await call.session.give_up()
        await call.session.give_up()
    assert call.said[-2:] == [APOLOGY, GOOD_BYE]
