"""The voice of a flow is built from the providers that it names, and says everything that has a default."""

from typing import Any

import pytest
from livekit.agents import AgentSession, stt

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.providers import build_voice, prewarm
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.recogniser import Recogniser
from antiphon.agent_worker.providers.scripted import ScriptedLLM
from antiphon.agent_worker.providers.table import PROVIDERS


async def test_a_session_takes_the_voice_as_it_is(booking: Flow) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    voice = build_voice(booking, userdata)
    assert isinstance(voice["stt"], stt.StreamAdapter)
    assert isinstance(voice["llm"], ScriptedLLM)
    assert isinstance(voice["tts"], EspeakTTS)
    session: AgentSession[None] = AgentSession(**voice)
    assert session.options.preemptive_generation["enabled"] is False
    assert session.options.interruption["mode"] == "vad"
    assert session.options.user_away_timeout == booking.silence.after_seconds
    await session.aclose()


async def test_what_was_prewarmed_is_not_loaded_again(booking: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)

    def load_again(_self: Recogniser) -> None:
        pytest.fail("loaded a second time")

    monkeypatch.setattr(Recogniser, "__init__", load_again)
    build_voice(booking, userdata)


def test_every_kind_of_provider_has_one_that_needs_no_network() -> None:
    assert {kind: list(names) for kind, names in PROVIDERS.items()} == {
        "vad": ["silero"],
        "stt": ["offline"],
        "llm": ["offline"],
        "tts": ["offline"],
    }
