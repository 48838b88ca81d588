"""What a person is told to type works where they stand."""

import sys
from pathlib import Path

import pytest

from antiphon.cli.screen import me


def test_a_command_on_the_path_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "antiphon"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(command)])

    assert me() == "antiphon"


def test_any_other_is_called_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "antiphon")])
    monkeypatch.chdir(tmp_path)

    assert me() == ".venv/bin/antiphon"
