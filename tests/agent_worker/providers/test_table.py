"""The table of providers, what a process loads of it, and the options of a session."""

import subprocess
import sys
from typing import Any

import pytest
from livekit.agents import AgentSession, stt

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.loaded import (
    OFFLINE_PROVIDERS,
    fork_server_modules,
    import_plugins,
    loaded,
    prewarm,
    providers_of,
)
from antiphon.agent_worker.providers.sphinx import Recogniser
from antiphon.agent_worker.providers.table import PROVIDERS, check_installed
from antiphon.agent_worker.providers.voices import llm_factory, session_options


async def test_session_options_are_accepted_by_agent_session(bound: BoundFlow) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    options = session_options(bound, userdata)
    assert isinstance(options["stt"], stt.StreamAdapter)
    assert isinstance(options["llm"], ScriptedLLM)
    assert isinstance(options["tts"], EspeakTTS)
    session: AgentSession[None] = AgentSession(**options)
    assert session.options.preemptive_generation["enabled"] is False
    assert session.options.interruption["mode"] == "vad"
    assert bound.flow.silence is not None
    assert session.options.user_away_timeout == bound.flow.silence.after_seconds
    await session.aclose()


async def test_models_are_loaded_once(bound: BoundFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    assert loaded(userdata).shared.keys() == OFFLINE_PROVIDERS

    def load_again(_self: Recogniser) -> None:
        pytest.fail("loaded a second time")

    monkeypatch.setattr(Recogniser, "__init__", load_again)
    session_options(bound, userdata)


def test_nothing_is_loaded_that_no_flow_uses() -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata, {("llm", "offline"), ("vad", "silero")})
    assert loaded(userdata).shared.keys() == {("llm", "offline"), ("vad", "silero")}


def test_a_provider_that_is_not_there_stops_no_process() -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata, {("tts", "gone"), ("llm", "offline")})
    assert loaded(userdata).shared.keys() == {("llm", "offline")}


async def test_a_provider_that_was_not_loaded_before_is_loaded_by_the_call(bound: BoundFlow) -> None:
    userdata: dict[str, Any] = {}
    import_plugins(bound.flow)
    assert isinstance(session_options(bound, userdata)["tts"], EspeakTTS)
    assert loaded(userdata).shared.keys() == OFFLINE_PROVIDERS


def test_the_providers_of_flows(bound: BoundFlow) -> None:
    assert providers_of([bound.flow]) == OFFLINE_PROVIDERS
    assert providers_of([]) == frozenset()


def test_the_fork_server_imports_what_job_processes_share() -> None:
    assert fork_server_modules(OFFLINE_PROVIDERS) == ["antiphon.agent_worker.preload_words"]
    assert fork_server_modules([("llm", "openai"), ("stt", "deepgram"), ("tts", "gone")]) == [
        "livekit.plugins.deepgram",
        "livekit.plugins.openai",
    ]


def test_the_agents_of_a_flow_use_its_language_model(bound: BoundFlow) -> None:
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    model = session_options(bound, userdata)["llm"]
    assert build_entry_agent(bound, llm_factory(bound.flow, userdata)).llm is model


def test_prewarm_loads_the_voice() -> None:
    # a process of its own: the library cannot be started twice
    program = """
from antiphon.agent_worker.providers import espeak
from antiphon.agent_worker.providers.loaded import prewarm
prewarm({})
assert espeak._engine is not None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_providers_of_each_kind() -> None:
    assert {kind: list(names) for kind, names in PROVIDERS.names().items()} == {
        "vad": ["silero"],
        "stt": ["offline", "openai", "deepgram", "deepgram-flux"],
        "llm": ["offline", "openai", "openai-responses"],
        "tts": ["offline", "openai", "deepgram"],
        "realtime": ["openai"],
    }


@pytest.mark.parametrize("module", ["pocketsphinx", "espeakng_loader"])
def test_missing_library_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"needs .* \(pip install "):
        check_installed()
