"""What a caller hears when nothing can hear them any more: the apology, and how the call ends."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from tests.agent_worker.doubles.driven import until
from tests.agent_worker.doubles.spoken_call import APOLOGY, RATE, SpokenCall, spoken_call
from tests.doubles.audio import silence, tone
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.faults import UNAUTHORIZED
from tests.doubles.openai_answers import say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_stt import OpenAIStt
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import KEY, Double, serve

from antiphon.agent_worker.apology import MOST_FAILURES
from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer

Calls = Callable[[str], AbstractAsyncContextManager[SpokenCall]]
SPOKEN = tone(0.4, RATE) + silence(0.7, RATE)
NOVA = "use: deepgram, base_url: URL/v1/listen"
OPENAI = "use: openai, use_realtime: true, base_url: URL/v1"


@pytest.fixture
def calls(bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    return partial(spoken_call, bus, nats_server.url, tmp_path)


def voice_of(url: str, stt: str) -> str:
    """Return the content of a flow's `voice:` without a fallback."""
    key = 'api_key: "{secret.DOUBLE}"'
    return (
        f"vad: silero\nstt: {{{stt.replace('URL', url)}, {key}}}\n"
        f"llm: {{use: openai, base_url: {url}/v1, {key}}}\ntts: {{use: openai, base_url: {url}/v1, {key}}}"
    )


@pytest.mark.parametrize(("recogniser", "stt"), [(DeepgramNova, NOVA), (OpenAIStt, OPENAI)])
async def test_a_call_that_nobody_hears_ends_after_the_apology(
    calls: Calls, recogniser: Callable[[], Double], stt: str
) -> None:
    ears = recogniser()
    ears.faults.always = UNAUTHORIZED
    async with serve(ears, OpenAIChat(), voice := OpenAITts()) as url, calls(voice_of(url, stt)) as call:
        await until(lambda: bool(call.closed))

        assert call.closed[0].reason.value == "error"
        assert set(call.said) == {APOLOGY}
        assert voice.spoken == call.said
        assert call.loudspeaker.played[-1] > 0.5
        errors = await call.recorded_errors()
        assert len(errors) > MOST_FAILURES  # it may fail again while the apology is spoken
        assert {(error.kind, error.recoverable) for error in errors} == {("APIStatusError", False)}


@pytest.mark.parametrize(("recogniser", "stt"), [(DeepgramNova, NOVA), (OpenAIStt, OPENAI)])
async def test_a_recogniser_that_failed_for_good_is_opened_again(
    calls: Calls, recogniser: Callable[[str], Double], stt: str
) -> None:
    ears, chat = recogniser("Hello?"), OpenAIChat()
    chat.answers.otherwise = say("I can hear you.")
    ears.faults.then(UNAUTHORIZED)
    async with serve(ears, chat, OpenAITts()) as url, calls(voice_of(url, stt)) as call:
        await call.answered(1)
        await until(lambda: len(ears.received) > 1)
        call.speak(SPOKEN)
        await call.answered(2)

        assert call.heard == ["Hello?"]
        assert call.said == [APOLOGY, "I can hear you."]
        assert call.closed == []
