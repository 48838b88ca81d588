"""`antiphon flow new` and `check`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.agent_worker.conversation.expected import run_expected
from antiphon.agent_worker.conversation.flow_file import open_flow, schema_text
from antiphon.cli.commands.flow import Template
from antiphon.cli.errors import StackError
from antiphon.cli.flows.checking import print_problems
from antiphon.cli.flows.writing import write_flow

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"


@pytest.mark.parametrize("template", Template)
async def test_a_new_flow_passes_its_check_and_its_test(template: Template, tmp_path: Path) -> None:
    path = write_flow("my-flow", template.value, tmp_path, force=False)

    file = open_flow(path, needs_secrets=False)
    assert file.flow.id == "my-flow"
    assert path.read_text().startswith("# yaml-language-server: $schema=flow.schema.json\n")
    assert (tmp_path / "flow.schema.json").read_text() == schema_text()
    outcomes = [outcome async for outcome in run_expected(file)]
    assert outcomes
    assert [outcome.name for outcome in outcomes if not outcome.passed] == []


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    (tmp_path / "flow.schema.json").write_text("mine too")

    with pytest.raises(StackError, match=r"mine\.yaml is there already: .* pass --force"):
        write_flow("mine", "minimal", tmp_path, force=False)
    assert (tmp_path / "mine.yaml").read_text() == "mine"

    write_flow("mine", "minimal", tmp_path, force=True)
    assert "id: mine\n" in (tmp_path / "mine.yaml").read_text()
    assert (tmp_path / "flow.schema.json").read_text() == "mine too"


def test_it_goes_to_the_folder_of_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_flow("one", "minimal", None, force=False) == Path("one.yaml")
    (tmp_path / "flows").mkdir()
    assert write_flow("two", "minimal", None, force=False) == Path("flows/two.yaml")
    assert write_flow("three", "minimal", Path("a/b"), force=False) == Path("a/b/three.yaml")


@pytest.mark.parametrize("name", ["My Flow", "", "../x", "1st", "x" * 64])
def test_a_name_that_is_no_id_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="is not the id of a flow"):
        write_flow(name, "minimal", tmp_path, force=False)
    assert list(tmp_path.iterdir()) == []


BROKEN = """\
id: x
name: X
description: X.
agents:
  host: {instructions: a, greeting: b, tool: []}
script: {phrases: {hi: hello}, rules: [{hear: hi, say: Hello.}]}
"""


def test_check_prints_every_problem_of_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, missing = tmp_path / "broken.yaml", tmp_path / "missing.yaml"
    broken.write_text(BROKEN)

    assert not print_problems([broken, missing], as_json=False, needs_secrets=True)

    output, errors = capsys.readouterr()
    first, second = output.splitlines()
    assert first.startswith(f"{broken}:5: agents.host.tool: unknown key; ")
    assert second.startswith(f"{missing}:1: cannot be read:")
    assert errors == "2 files: 2 problems\n"


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(BROKEN)

    assert not print_problems([broken], as_json=True, needs_secrets=True)

    document = json.loads(capsys.readouterr().out)
    assert document["files"] == 1
    (problem,) = document["problems"]
    assert (problem["file"], problem["line"], problem["place"]) == (str(broken), 5, "agents.host.tool")


def test_a_secret_that_is_not_set_is_a_problem_unless_it_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_flow("secret", "minimal", tmp_path, force=False)
    tool = """\
tools:
  find:
    description: Find it.
    http: {url: "https://example.com", headers: {Authorization: "Bearer {secret.SHOP_TOKEN}"}}
"""
    path.write_text(path.read_text().replace("agents:\n", f"{tool}agents:\n", 1))
    capsys.readouterr()

    assert not print_problems([path], as_json=False, needs_secrets=True)
    assert "SHOP_TOKEN" in capsys.readouterr().out
    assert print_problems([path], as_json=False, needs_secrets=False)


def test_the_exit_code_of_check(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)

    done = subprocess.run(
        [ANTIPHON, "flow", "check", path], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 1
    assert done.stderr == "1 file: 1 problem\n"
