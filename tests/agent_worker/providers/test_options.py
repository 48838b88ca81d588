"""The options and keys of providers in a flow file, as the check sees them."""

import json
import sys

import pytest
from tests.agent_worker.providers.voice_flows import reasons, with_voice

from antiphon.agent_worker.flow.voice import Provider
from antiphon.agent_worker.providers.entry import ProviderProblem
from antiphon.agent_worker.providers.options import NO_KEY, arguments, expected
from antiphon.agent_worker.providers.table import PROVIDERS

VOICE = "stt: deepgram\ntts: openai\nllm: "
OPENAI = "sk-of-openai"
DEEPGRAM = "key-of-deepgram"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI)
    monkeypatch.setenv("DEEPGRAM_API_KEY", DEEPGRAM)
    monkeypatch.delenv("ANTIPHON_SECRET_TEAM", raising=False)


def test_options_are_those_of_the_plugin() -> None:
    assert reasons(f"{VOICE}{{use: openai, model: gpt-4.1, temperature: 1, extra_body: {{a: [1]}}}}") == []


def test_an_unknown_option_gets_what_it_may_have_meant_and_all_that_are_allowed() -> None:
    (reason,) = reasons(f"{VOICE}{{use: openai, temprature: 0.3}}")
    assert reason.startswith("voice.llm.temprature: unknown option; did you mean 'temperature'?; allowed: ")
    assert "max_completion_tokens" in reason
    assert "client" not in reason


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("temperature: hot", "must be a number, not 'hot'"),
        ("max_completion_tokens: 1.5", "must be a whole number, not 1.5"),
        ("parallel_tool_calls: yes", "must be true or false, not 'yes'"),
        ("verbosity: loud", "must be one of low, medium, high, not 'loud'"),
        ("model: 4", "must be a text, not 4"),
        ("metadata: [a]", "must be keys and values, not ['a']"),
    ],
)
def test_a_value_of_the_wrong_type_gets_what_is_allowed(option: str, reason: str) -> None:
    assert reasons(f"{VOICE}{{use: openai, {option}}}") == [f"voice.llm.{option.partition(':')[0]}: {reason}"]


def test_options_of_a_fallback_are_checked() -> None:
    (reason,) = reasons(
        "stt: deepgram\nllm: openai\ntts: {use: deepgram, fallbacks: [{use: openai, pitch: 2}]}"
    )
    assert reason.startswith("voice.tts.fallbacks[0].pitch: unknown option")


def test_a_provider_without_options_says_so() -> None:
    (reason,) = reasons("stt: deepgram\nllm: openai\ntts: {use: offline, speed: 2}")
    assert reason == "voice.tts.speed: unknown option; allowed: none, it has no options"


def test_the_options_of_the_voice_detector() -> None:
    assert reasons(f"vad: {{use: silero, min_silence_duration: 0.3}}\n{VOICE}openai") == []
    (reason,) = reasons(f"vad: {{use: silero, silence: 1}}\n{VOICE}openai")
    assert "min_silence_duration" in reason


@pytest.mark.parametrize(
    ("kind", "name", "variable"),
    [
        (kind, name, entry.key)
        for (kind, name), entry in PROVIDERS.entries.items()
        if entry.key is not None and kind != "realtime"
    ],
)
def test_a_missing_key_says_which_variable_to_set(
    kind: str, name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable)
    voice = {"stt": "deepgram", "llm": "openai", "tts": "openai"} | {kind: name}
    found = [reason for reason in reasons(json.dumps(voice)) if f"voice.{kind}:" in reason]
    what_to_do = f'set {variable}, or name a secret with `api_key: "{{secret.NAME}}"` and set'
    assert found == [
        f"voice.{kind}: the {kind} provider {name!r} needs an API key: {what_to_do} ANTIPHON_SECRET_NAME"
    ]


def test_a_key_in_the_file_is_an_error_that_does_not_show_it() -> None:
    (reason,) = reasons(f"{VOICE}{{use: openai, api_key: sk-in-the-file}}")
    assert 'write `api_key: "{secret.NAME}"` and set ANTIPHON_SECRET_NAME' in reason
    assert "sk-in-the-file" not in reason


def test_a_named_secret_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    voice = f'{VOICE}{{use: openai, api_key: "{{secret.TEAM}}"}}'
    assert reasons(voice) == ["voice.llm.api_key: the secret 'TEAM' is not set: set ANTIPHON_SECRET_TEAM"]
    monkeypatch.setenv("ANTIPHON_SECRET_TEAM", "sk-of-the-team")
    assert reasons(voice) == []
    flow = with_voice(voice).flow
    assert flow.voice.llm is not None
    given = arguments(PROVIDERS.find("llm", "openai"), flow.voice.llm, "en")
    assert given["api_key"] == "sk-of-the-team"


def test_secrets_in_headers_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_SECRET_TEAM", "value")
    provider = Provider(use="openai", extra_headers={"x-team": "Team {secret.TEAM}"})
    given = arguments(PROVIDERS.find("llm", "openai"), provider, "en")
    assert given["extra_headers"] == {"x-team": "Team value"}


def test_the_key_of_the_public_service_is_not_sent_to_another_server() -> None:
    entry = PROVIDERS.find("llm", "openai")
    given = arguments(entry, Provider(use="openai", base_url="http://127.0.0.1:1/v1"), "en")
    assert given["api_key"] == NO_KEY
    assert arguments(entry, Provider(use="openai"), "en")["api_key"] == OPENAI


def test_a_server_of_your_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert (
        reasons('stt: deepgram\ntts: deepgram\nllm: {use: openai, base_url: "http://127.0.0.1:11434/v1"}')
        == []
    )


@pytest.mark.parametrize(
    ("name", "language"), [("deepgram", "de-DE"), ("openai", "de")], ids=["deepgram", "openai"]
)
def test_a_recogniser_gets_the_language_of_the_flow(name: str, language: str) -> None:
    entry = PROVIDERS.find("stt", name)
    assert arguments(entry, Provider(use=name), "de-DE")["language"] == language
    assert arguments(entry, Provider(use=name, language="fr"), "de-DE")["language"] == "fr"


def test_a_secret_that_is_gone_when_the_call_starts_is_named() -> None:
    provider = Provider(use="openai", api_key="{secret.TEAM}")
    with pytest.raises(ProviderProblem, match="set ANTIPHON_SECRET_TEAM"):
        arguments(PROVIDERS.find("llm", "openai"), provider, "en")


def test_a_check_imports_no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("livekit.plugins.")]:
        monkeypatch.delitem(sys.modules, module)
    assert reasons(f"{VOICE}{{use: openai, temperature: 0.5}}") == []
    assert not [name for name in sys.modules if name.startswith("livekit.plugins.")]


def test_types_in_words() -> None:
    assert expected({"type": "array", "items": {"type": "string"}}) == "a list, each a text"
    assert expected({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}) == (
        "a text or a list, each a text"
    )
    assert expected({}) == "a value"
