"""`make` passes its arguments on unchanged."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile in a folder whose programs print their arguments."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("antiphon", "pytest", "python"):
        (programs / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        (programs / name).chmod(0o755)
    for line in ("requirements.lock", "pyproject.toml", *_members()):
        (tmp_path / line).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / line).touch()
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def _members() -> list[str]:
    text = (ROOT / "Makefile").read_text()
    line = next(line for line in text.splitlines() if line.startswith("MEMBERS"))
    return [f"{member}/pyproject.toml" for member in line.partition(":=")[2].split()]


def _make(checkout: Path, *arguments: str) -> list[str]:
    # the tests may run in a make with arguments of its own, which would reach this one
    ours = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "SERVICE", "FLOW", "SAY"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_every_workspace_member_is_installed() -> None:
    found = {str(path.relative_to(ROOT)) for path in ROOT.glob("*/pyproject.toml")}
    found |= {str(path.relative_to(ROOT)) for path in ROOT.glob("services/*/pyproject.toml")}

    assert set(_members()) == found


def test_lines_are_passed_unchanged(checkout: Path) -> None:
    said = 'hello|it\'s "me" $HOME; thank you'

    assert _make(checkout, "call", f"SAY={said.replace('$', '$$')}", "FLOW=booking") == [
        "antiphon",
        "call",
        "--flow",
        "booking",
        "--say",
        said,
    ]


def test_missing_arguments_are_not_passed(checkout: Path) -> None:
    assert _make(checkout, "call") == ["antiphon", "call"]
    assert _make(checkout, "logs") == ["antiphon", "logs"]


def test_logs_pass_the_service(checkout: Path) -> None:
    assert _make(checkout, "logs", "SERVICE=nats", "ARGS=-f") == ["antiphon", "logs", "nats", "-f"]


def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    shown = "\n".join(_make(checkout))

    targets = "up down status logs call test test-platforms check bench contracts lock"
    for target in targets.split():
        assert f"  {target} " in shown


@pytest.mark.parametrize(
    ("given", "named"), [("", "python3 is"), ("./old-python", "old-python is Python 3.9.2")]
)
def test_wrong_python_is_refused(checkout: Path, given: str, named: str) -> None:
    (checkout / ".venv" / ".ready").unlink()
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "status", f"PYTHON={given}"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert named in done.stderr
