"""The table of providers, and the AgentSession options that are built from it."""

import sys
from typing import Any

import pytest
from livekit.agents import AgentSession, stt

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.sphinx import Recogniser
from antiphon.agent_worker.providers.table import CATALOG, check_installed, prewarm, session_options


async def test_session_options_are_accepted_by_agent_session(booking: Flow) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    options = session_options(booking, userdata)
    assert isinstance(options["stt"], stt.StreamAdapter)
    assert isinstance(options["llm"], ScriptedLLM)
    assert isinstance(options["tts"], EspeakTTS)
    session: AgentSession[None] = AgentSession(**options)
    assert session.options.preemptive_generation["enabled"] is False
    assert session.options.interruption["mode"] == "vad"
    assert session.options.user_away_timeout == booking.silence.after_seconds
    await session.aclose()


async def test_models_are_loaded_once(booking: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)

    def load_again(_self: Recogniser) -> None:
        pytest.fail("loaded a second time")

    monkeypatch.setattr(Recogniser, "__init__", load_again)
    session_options(booking, userdata)


def test_every_kind_has_an_offline_provider() -> None:
    assert {kind: list(names) for kind, names in CATALOG.names.items()} == {
        "vad": ["silero"],
        "stt": ["offline"],
        "llm": ["offline"],
        "tts": ["offline"],
    }


@pytest.mark.parametrize("module", ["pocketsphinx", "espeakng_loader"])
def test_missing_library_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"needs .* \(pip install "):
        check_installed()
