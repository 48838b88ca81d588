"""The program name in messages works in the current folder."""

import sys
from pathlib import Path

import pytest

from antiphon.cli.screen import program_name


def test_program_on_path_has_its_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "antiphon"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(command)])

    assert program_name() == "antiphon"


def test_other_program_has_its_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "antiphon")])
    monkeypatch.chdir(tmp_path)

    assert program_name() == ".venv/bin/antiphon"
