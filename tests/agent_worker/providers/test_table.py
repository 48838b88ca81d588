"""The table of providers, and the AgentSession options that are built from it."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from livekit.agents import AgentSession, stt

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers import espeak, table
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.sphinx import Recogniser
from antiphon.agent_worker.providers.table import (
    CATALOG,
    check_installed,
    llm_factory,
    prewarm,
    session_options,
)


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


async def test_every_kind_of_provider_is_loaded_before_the_call(
    booking: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def loading(kind: str, load: Callable[[], Any]) -> Callable[[], Any]:
        def count() -> Any:
            loads.append(kind)
            return load()

        return count

    of_table = table.PROVIDERS
    recogniser = of_table.stt["offline"]
    monkeypatch.setattr(
        table,
        "PROVIDERS",
        replace(
            of_table,
            vad={"silero": loading("vad", of_table.vad["silero"])},
            stt={"offline": replace(recogniser, load=loading("stt", recogniser.load))},
            llm={"offline": loading("llm", of_table.llm["offline"])},
            tts={"offline": loading("tts", of_table.tts["offline"])},
        ),
    )
    userdata: dict[str, Any] = {}
    prewarm(userdata)
    assert sorted(loads) == ["llm", "stt", "tts", "vad"]

    session_options(booking, userdata)
    build_entry_agent(booking, llm_factory(booking, userdata))
    assert len(loads) == 4


def test_the_agents_of_a_flow_use_the_loaded_language_model(
    booking: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LoadedLLM(ScriptedLLM):
        """The model that `load` has loaded."""

    monkeypatch.setattr(table, "PROVIDERS", replace(table.PROVIDERS, llm={"offline": lambda: LoadedLLM}))
    userdata: dict[str, Any] = {}
    prewarm(userdata)

    assert isinstance(session_options(booking, userdata)["llm"], LoadedLLM)
    assert isinstance(build_entry_agent(booking, llm_factory(booking, userdata)).llm, LoadedLLM)


def test_prewarm_loads_the_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_engine", None)
    prewarm({})
    assert espeak._engine is not None


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
