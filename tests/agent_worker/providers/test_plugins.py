"""Each provider through the constructor of the installed plugin."""

import asyncio
import json
from typing import Any

import pytest
from livekit.agents import AgentSession, llm, stt, tts, vad
from tests.agent_worker.providers.voice_flows import AGENTS, HEAD, with_voice

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import bind
from antiphon.agent_worker.generate import render_options
from antiphon.agent_worker.providers.entry import ProviderProblem
from antiphon.agent_worker.providers.loaded import import_plugins
from antiphon.agent_worker.providers.signature import OPTIONS
from antiphon.agent_worker.providers.table import PROVIDERS
from antiphon.agent_worker.providers.voices import session_options, voice_of_agent

KINDS: dict[str, type[Any]] = {
    "vad": vad.VAD,
    "stt": stt.STT,
    "llm": llm.LLM,
    "tts": tts.TTS,
    "realtime": llm.RealtimeModel,
}
SCRIPT = "script: {fallback: Pardon?, phrases: {hi: [hello]}, rules: [{hear: hi, say: Hello.}]}\n"
REALTIME = "realtime: {use: openai, turn_detection: {type: server_vad, threshold: 0.6}}"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "DEEPGRAM_API_KEY"):
        monkeypatch.setenv(variable, "key-of-the-test")


@pytest.mark.parametrize("entry", PROVIDERS.entries.values(), ids=lambda entry: entry.place)
async def test_the_example_of_a_provider_works(entry: Any) -> None:
    turns = "turns: {detection: stt}\n" if "turns:" in entry.example else ""
    script = SCRIPT if "offline" in entry.example.partition("tts")[0] else ""
    text = f"{HEAD}{entry.example.replace(turns, '') if turns else entry.example}{turns}{AGENTS}{script}"
    bound = bind(load_flow(text, CATALOG), CATALOG)
    import_plugins(bound.flow)
    options = await asyncio.to_thread(session_options, bound, {})
    made = options["llm" if entry.kind == "realtime" else entry.kind]
    assert isinstance(made, KINDS[entry.kind])
    session: AgentSession[None] = AgentSession(**options)
    await session.aclose()


def test_the_committed_options_are_those_of_the_installed_plugins() -> None:
    assert OPTIONS.read_text() == render_options(), "run: make contracts"


async def test_options_reach_the_plugin() -> None:
    bound = with_voice(
        "stt: {use: deepgram, model: nova-3-medical, endpointing_ms: 100, keyterm: [antiphon]}\n"
        "llm: {use: openai, model: gpt-4.1-nano, temperature: 0}\n"
        "tts: {use: openai, voice: coral, speed: 1.5}\n"
        "vad: {use: silero, min_silence_duration: 0.2}\n"
    )
    import_plugins(bound.flow)
    options = session_options(bound, {})
    assert options["stt"]._opts.model == "nova-3-medical"
    assert options["stt"]._opts.endpointing_ms == 100
    assert options["stt"]._opts.language == "en"
    assert options["llm"]._opts.temperature == 0
    assert (options["tts"]._opts.voice, options["tts"]._opts.speed) == ("coral", 1.5)
    assert options["vad"].min_silence_duration == 0.2


async def test_a_plugin_that_refuses_an_option_is_named() -> None:
    bound = with_voice("stt: deepgram\nllm: openai\ntts: {use: deepgram, speed: 9}")
    import_plugins(bound.flow)
    with pytest.raises(ProviderProblem, match="the tts provider 'deepgram' refuses: speed must be between"):
        session_options(bound, {})


async def test_a_realtime_model_replaces_stt_and_llm() -> None:
    bound = with_voice(REALTIME)
    import_plugins(bound.flow)
    options = session_options(bound, {})
    assert isinstance(options["llm"], llm.RealtimeModel)
    model: Any = options["llm"]
    assert model._opts.turn_detection.threshold == 0.6
    assert options["stt"] is None
    assert options["turn_handling"]["turn_detection"] == "realtime_llm"


async def test_an_agent_gets_what_differs_from_the_session() -> None:
    rest = (
        "agents:\n"
        "  host: {instructions: Hi., greeting: Hello., hand_offs: [same, voice, model]}\n"
        "  same: {instructions: Hi.}\n"
        "  voice: {instructions: Hi., voice: {tts: {use: openai, voice: coral}}}\n"
        f"  model: {{instructions: Hi., voice: {{{REALTIME}}}}}\n"
    )
    bound = with_voice("stt: deepgram\nllm: openai\ntts: openai", rest)
    import_plugins(bound.flow)
    userdata: dict[str, Any] = {}
    options = session_options(bound, userdata)
    assert voice_of_agent(bound, "same", userdata) == {}
    assert voice_of_agent(bound, "voice", userdata).keys() == {"tts"}
    assert voice_of_agent(bound, "voice", userdata) == voice_of_agent(bound, "voice", userdata)
    with_model = voice_of_agent(bound, "model", userdata)
    assert with_model["stt"] is None
    assert isinstance(with_model["llm"], llm.RealtimeModel)
    assert options["tts"] is not voice_of_agent(bound, "voice", userdata)["tts"]


async def test_agents_share_a_voice_detector() -> None:
    rest = (
        "agents:\n  host: {instructions: Hi., greeting: Hello., hand_offs: [other]}\n"
        "  other: {instructions: Hi., voice: {stt: openai}}\n"
    )
    bound = with_voice("stt: deepgram\nllm: openai\ntts: openai", rest)
    import_plugins(bound.flow)
    userdata: dict[str, Any] = {}
    options = session_options(bound, userdata)
    own = voice_of_agent(bound, "other", userdata)["stt"]
    assert isinstance(own, stt.StreamAdapter)  # OpenAI takes whole sentences
    assert own._vad is options["vad"]


async def test_two_sessions_of_a_process_share_models_and_nothing_else() -> None:
    userdata: dict[str, Any] = {}
    first, second = (with_voice("stt: deepgram\nllm: openai\ntts: openai") for _ in range(2))
    import_plugins(first.flow)
    one, two = session_options(first, userdata), session_options(second, userdata)
    assert one["vad"] is two["vad"]
    assert one["llm"] is not two["llm"]


def test_the_schema_is_json() -> None:
    assert json.loads(OPTIONS.read_text()).keys() >= {"llm openai", "stt deepgram-flux", "realtime openai"}
