"""The program name in messages works in the current folder; text of others cannot act on the terminal."""

import signal
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from antiphon.cli.errors import StackError
from antiphon.cli.main import app
from antiphon.cli.screen import program_name, report_errors, shown

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


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


def test_control_characters_of_others_are_written_out() -> None:
    text = "hi\x1b]52;c;ZXZpbA==\x07\r\n\x7f\x9b2J\u2028\u202e\ud83d"

    assert shown(text) == "hi\\x1b]52;c;ZXZpbA==\\x07\\x0d\\x0a\\x7f\\x9b2J\\u2028\\u202e\\ud83d"
    assert shown("“Köln” → 東京 👍\u200d") == "“Köln” → 東京 👍\u200d"


def test_coloured_text_keeps_its_colours_only() -> None:
    assert shown("\x1b[1;32mok\x1b[0m\ta\x1b[2Jb\x1b]0;c\x07", coloured=True) == (
        "\x1b[1;32mok\x1b[0m\ta\\x1b[2Jb\\x1b]0;c\\x07"
    )


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StackError("it is not up"), 1, "antiphon: it is not up"),
        (PermissionError(13, "Permission denied", "/x/state.json"), 1, "/x/state.json: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_of_a_command_is_a_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        report_errors(command)()

    assert ended.value.exit_code == code
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == (1 if line else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sessions", "--limit", "500"), "'--limit': takes at most 100"),
        (("sessions", "--limit", "many"), "'--limit': takes an integer"),
        (("show", SESSION, "--at", "foo"), "'--at': takes an integer"),
        (("end", "nope"), "a session's id is ses_ and 26 characters"),
        (("export", "--output", "x", "--format", "csv"), "'csv' is not one of 'ndjson', 'parquet'"),
        (("keys", "create", "ci", "--scope", "nope"), "'nope' is not one of 'sessions:read'"),
        (("call", "--ready-within", "0"), "'--ready-within': takes at least 1"),
    ],
)
def test_a_wrong_argument_gets_a_message_of_ours(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert "Input should" not in result.output


def test_sigterm_ends_a_command_as_ctrl_c_does_with_its_own_code() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned: list[str] = []

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append("up")

    with pytest.raises(typer.Exit) as ended:
        report_errors(command)()

    assert ended.value.exit_code == 143
    assert cleaned == ["up"]
    assert signal.getsignal(signal.SIGTERM) is before
