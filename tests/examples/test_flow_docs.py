"""What the documents say of flows is so: their commands, their files, and the schema that editors use."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from antiphon.agent_worker.conversation.expected import run_expected
from antiphon.agent_worker.conversation.flow_file import open_flow
from antiphon.agent_worker.flow.document import parse_yaml
from antiphon.cli.flows.writing import write_flow

ROOT = Path(__file__).parents[2]
ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
GUIDE = (ROOT / "docs" / "how-to" / "write-a-flow.md").read_text()
KEYS = {"OPENAI_API_KEY": "a", "DEEPGRAM_API_KEY": "b"}
FILES = sorted([*ROOT.glob("flows/*.yaml"), *ROOT.glob("examples/flows/*.yaml")])
TEMPLATES = sorted((ROOT / "cli/src/antiphon/cli/flows/templates").glob("*.yaml"))
SCHEMA = json.loads((ROOT / "flows" / "flow.schema.json").read_text())


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def three_lines_changed(text: str) -> str:
    """Return a flow with the three lines of the guide in place of its own."""
    wanted = {line.split(":")[0]: line for line in blocks(GUIDE, "yaml")[1].splitlines()}
    changed = [wanted.get(line.split(":")[0], line) for line in text.splitlines()]
    differ = [old for old, new in zip(text.splitlines(), changed, strict=True) if old != new]
    assert differ == ["  stt: offline", "  llm: offline", "  tts: offline"]
    return "\n".join(changed) + "\n"


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/test-a-flow.md"])
def test_the_first_commands_of_a_page_work(page: str, tmp_path: Path) -> None:
    (block,) = [one for one in blocks((ROOT / page).read_text(), "console") if "flow new" in one]
    (tmp_path / "flows").mkdir()

    for line in block.splitlines():
        command = line.removeprefix("$ ").replace(".venv/bin/antiphon", str(ANTIPHON))
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            input="when are you open\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    assert [path.name for path in (tmp_path / "flows").glob("*.yaml")] == ["shop.yaml"]


def test_the_flow_of_the_guide_runs_with_a_model_after_three_lines(tmp_path: Path) -> None:
    path = tmp_path / "opening-hours.yaml"
    path.write_text(three_lines_changed(blocks(GUIDE, "yaml")[0]))
    without = {name: value for name, value in os.environ.items() if name not in KEYS}

    def check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ANTIPHON, "flow", "check", path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = check(without | KEYS)
    assert (done.returncode, done.stdout) == (0, "")
    done = check(without)
    assert done.returncode == 1
    assert all(f"set {name}" in done.stdout for name in KEYS)


async def test_a_new_flow_does_what_it_did_after_three_lines(tmp_path: Path) -> None:
    path = write_flow("shop", "minimal", tmp_path, force=False)
    path.write_text(three_lines_changed(path.read_text()))

    outcomes = [outcome async for outcome in run_expected(open_flow(path, needs_secrets=False))]

    assert [outcome.passed for outcome in outcomes] == [True]


def test_text_needs_the_key_of_the_model_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "opening-hours.yaml"
    path.write_text(three_lines_changed(blocks(GUIDE, "yaml")[0]))
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "a")

    assert open_flow(path, as_text=True).flow.id == "opening-hours"
    with pytest.raises(ValueError, match="set DEEPGRAM_API_KEY"):
        open_flow(path)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match=r"voice\.llm: .* set OPENAI_API_KEY") as caught:
        open_flow(path, as_text=True)
    assert "voice.stt" not in str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_editor_finds_the_schema_and_it_accepts_the_flow(path: Path) -> None:
    header = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())

    assert header is not None
    schema = json.loads((path.parent / header[1]).read_text())
    jsonschema.validate(parse_yaml(path.read_text(), file=path.name).data, schema)


@pytest.mark.parametrize("text", [*(path.read_text() for path in TEMPLATES), blocks(GUIDE, "yaml")[0]])
def test_the_published_schema_accepts_templates_and_the_guide(text: str) -> None:
    jsonschema.validate(parse_yaml(text, file="f").data, SCHEMA)


def test_the_errors_of_the_guide_are_those_of_the_flow(tmp_path: Path) -> None:
    text = blocks(GUIDE, "yaml")[0].replace(
        "    - hear: open\n      needs", "    - hear: opened\n      needs"
    )
    path = tmp_path / "opening-hours.yaml"
    path.write_text(text.replace("forget: [day]", "forget: [dy]"))

    with pytest.raises(ValueError, match="unknown phrase 'opened'") as caught:
        open_flow(path)

    for line in re.findall(r"^   (flows/opening-hours\.yaml:.*)$", GUIDE, re.MULTILINE):
        assert line.removeprefix("flows/") in str(caught.value), (line, str(caught.value))
