"""The files that are generated from the table of providers: the schema of flows, and the reference."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.agent_worker.providers.voice_flows import AGENTS, HEAD, source

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.document import parse_yaml
from antiphon.agent_worker.flow.voice import KINDS
from antiphon.agent_worker.generate import generated, main
from antiphon.agent_worker.providers.reference import INTRODUCTION
from antiphon.agent_worker.providers.schema import with_providers
from antiphon.agent_worker.providers.table import PROVIDERS

ROOT = Path(__file__).parents[3]


def test_committed_files_are_current() -> None:
    for path, text in generated(ROOT):
        assert path.read_text() == text, f"{path} is out of date: run make contracts"


def test_the_check_names_a_file_that_is_out_of_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    assert main([str(tmp_path), "--check"]) == 1
    assert "providers.md is out of date: run make contracts" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0


def test_the_reference_has_each_provider_with_its_example() -> None:
    text = (ROOT / "docs" / "reference" / "providers.md").read_text()
    for entry in PROVIDERS.entries.values():
        assert f"### {entry.name} ({entry.kind})" in text
        assert entry.example.rstrip() in text


def test_the_introduction_has_voices_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "DEEPGRAM_API_KEY", "ANTIPHON_SECRET_AZURE"):
        monkeypatch.setenv(variable, "key-of-the-test")
    voices = re.findall(r"^```yaml\n(voice:.*?)^```", INTRODUCTION.read_text(), re.DOTALL | re.MULTILINE)
    assert len(voices) == 2
    for voice in voices:
        assert load_flow(f"{HEAD}{voice}{AGENTS}", CATALOG).voice.llm


@pytest.fixture(scope="module")
def schema() -> Any:
    made = with_providers(PROVIDERS)
    jsonschema.Draft202012Validator.check_schema(made)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_an_editor_completes_the_names(kind: str, schema: Any) -> None:
    names = next(one["enum"] for one in schema["$defs"][kind]["anyOf"][1]["anyOf"] if "enum" in one)
    assert names == [*PROVIDERS.names()[kind]]


@pytest.mark.parametrize("entry", PROVIDERS.entries.values(), ids=lambda entry: entry.place)
def test_the_schema_accepts_the_example(entry: Any, schema: Any) -> None:
    jsonschema.validate(parse_yaml(f"{HEAD}{entry.example}{AGENTS}", file="x").data, schema)


@pytest.mark.parametrize(
    "voice",
    [
        "tts: {use: openai, vioce: ash}",
        "tts: {use: openai, speed: fast}",
        "tts: {use: offline, fallbacks: [{use: openai, vioce: ash}]}",
        "vad: {use: silero, threshold: 1}",
    ],
)
def test_an_editor_marks_a_wrong_option(voice: str, schema: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse_yaml(source(voice), file="x").data, schema)


def test_the_schema_accepts_a_provider_of_another_package(schema: Any) -> None:
    voice = "tts: {use: acme, anything: 1, fallbacks: [other]}\nstt: acme"
    jsonschema.validate(parse_yaml(source(voice), file="x").data, schema)
