"""`antiphon flow test`: what passes, what differs, what a CI system reads."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from antiphon.cli.flows import testing
from antiphon.cli.flows.writing import write_flow
from antiphon.cli.main import app

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
FLOWS = Path(__file__).parents[3] / "flows"
WRONG = """
  - name: is wrong
    steps:
      - agent: Good morning.
      - caller: when are you open
        agent: We are closed.
        calls: end_call
"""


def hold(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANTIPHON, "flow", "test", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def hold_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in this process: a new one imports for seconds what is here already."""
    monkeypatch.setattr(testing, "discard_logs", lambda: None)  # those of the other tests
    return lambda *arguments: CliRunner().invoke(app, ["flow", "test", *map(str, arguments)])


def with_difference(folder: Path) -> Path:
    path = write_flow("shop", "minimal", folder, force=False)
    with path.open("a") as file:
        file.write(WRONG)
    return path


def test_conversations_that_pass() -> None:
    done = hold(FLOWS / "booking.yaml", FLOWS / "survey.yaml")

    assert done.returncode == 0, done.stdout
    assert f"{FLOWS / 'booking.yaml'}\n  ✓ books a table  " in done.stdout
    assert "9 passed in " in done.stderr


def test_a_difference_says_where_what_was_expected_and_what_was_heard(
    tmp_path: Path, hold_here: Callable[..., Result]
) -> None:
    path = with_difference(tmp_path)
    junit = tmp_path / "report.xml"

    done = hold_here(path, "--junit-xml", junit)

    assert done.exit_code == 1
    line = path.read_text().splitlines().index("      - agent: Good morning.") + 1
    assert (
        """\
  ✗ is wrong"""
        in done.stdout
    )
    assert (
        f"""\
    step 1: the caller says nothing
    {path}:{line}: expect[1].steps[0].agent
      expected  Good morning.
      heard     Hello, this is the shop. Ask me when we are open.
      said      Hello, this is the shop. Ask me when we are open.
    step 2: the caller says “when are you open”
    {path}:{line + 2}: expect[1].steps[1].agent
      expected  We are closed.
      heard     We are open from nine to six. Is there anything else?
    {path}:{line + 3}: expect[1].steps[1].calls
      expected  end_call
      heard     nothing
"""
        in done.stdout
    )
    assert "1 passed, 1 failed in " in done.stderr
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == f"{path}:{line}: expect[1].steps[0].agent"
    assert "heard     nothing" in (failure.text or "")


def test_only_some_conversations(tmp_path: Path, hold_here: Callable[..., Result]) -> None:
    path = with_difference(tmp_path)

    done = hold_here(path, "-k", "shop IS open")

    assert done.exit_code == 0, done.stdout
    assert "is wrong" not in done.stdout


def test_a_file_with_errors_does_not_keep_back_the_others(
    tmp_path: Path, hold_here: Callable[..., Result]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("id: broken\n")
    junit = tmp_path / "report.xml"

    done = hold_here(broken, FLOWS / "survey.yaml", "--junit-xml", junit)

    assert done.exit_code == 1
    assert f"{broken}:1: name: is missing" in done.stdout
    assert "4 passed, 1 with errors in " in done.stderr
    assert [suite.get("errors") for suite in ET.parse(junit).getroot()] == ["1", "0"]


def test_a_flow_without_conversations_does_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text((FLOWS / "survey.yaml").read_text().partition("\nexpect:")[0])

    done = hold(path)

    assert done.returncode == 1
    assert "no conversation: write some under `expect:`" in done.stderr
