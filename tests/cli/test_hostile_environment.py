"""Every command ends with one line and code 1 or 2 in an environment that it cannot work in."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.home import claim

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
COMMANDS = (
    ("up", "--no-call"),
    ("down",),
    ("status",),
    ("status", "--json"),
    ("logs",),
    ("sessions",),
    ("tail",),
    ("call",),
)


def _run(
    *arguments: str,
    cwd: Path,
    variables: Mapping[str, str],
    shell: str = 'exec "$@"',
    user: int | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", shell, "sh", str(ANTIPHON), *arguments],
        env=dict(variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def _environment(home: Path | str, **variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "LIVEKIT_"))}
    return kept | {"ANTIPHON_HOME": str(home)} | variables


def _assert_one_line(done: subprocess.CompletedProcess[str], *codes: int) -> None:
    assert done.returncode in (codes or (1, 2)), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_home_that_is_a_file(command: tuple[str, ...], tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("not a folder")

    done = _run(*command, cwd=tmp_path, variables=_environment(home))

    _assert_one_line(done, 0 if command == ("down",) else 1)
    assert home.read_text() == "not a folder"


@pytest.mark.parametrize("home", ["/proc/antiphon", "/dev/null/home"])
@pytest.mark.parametrize("command", [("up", "--no-call"), ("status",)], ids=" ".join)
def test_a_home_that_cannot_be_created(command: tuple[str, ...], home: str, tmp_path: Path) -> None:
    _assert_one_line(
        _run(*command, cwd=tmp_path, variables=_environment(home)), 0 if command == ("down",) else 1
    )


def test_a_home_of_something_else_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "project"
    home.mkdir(mode=0o755)
    (home / ".gitignore").write_text("*.pyc\n")
    (home / "logs").mkdir()

    for command in ("up", "down"):
        done = _run(command, cwd=tmp_path, variables=_environment(home))
        _assert_one_line(done, 0 if command == "down" else 1)

    assert {path.name for path in home.iterdir()} == {".gitignore", "logs"}
    assert home.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("content", ["{", "\udcff", '{"api_key": 1}'])
def test_damaged_credentials_are_named(content: str, tmp_path: Path) -> None:
    settings = isolated_settings(tmp_path / "home")
    claim(settings.home)
    (settings.home / "credentials.json").write_bytes(content.encode(errors="surrogateescape"))

    done = _run("up", "--no-call", cwd=tmp_path, variables=_environment("", **settings.environment()))

    _assert_one_line(done, 1)
    assert "credentials.json is damaged" in done.stderr


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"supervisor_pid": "x"}'])
def test_a_damaged_state_file_is_no_stack(content: bytes, tmp_path: Path) -> None:
    home = tmp_path / "home"
    claim(home)
    (home / "state.json").write_bytes(content)

    for command in (("status",), ("sessions",)):
        _assert_one_line(_run(*command, cwd=tmp_path, variables=_environment(home)), 1)
    _assert_one_line(_run("down", cwd=tmp_path, variables=_environment(home)), 0)


@pytest.mark.parametrize("session", ["../flows", "", "ses_\n"])
@pytest.mark.parametrize("command", ["show", "tail"])
def test_a_wrong_session_id_is_a_wrong_argument(command: str, session: str, tmp_path: Path) -> None:
    done = _run(command, session, cwd=tmp_path, variables=_environment(tmp_path / "home"))

    assert done.returncode == 2
    assert "a session's id is ses_" in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_closed_or_broken_output_is_no_traceback(tmp_path: Path) -> None:
    home = tmp_path / "home"
    claim(home)
    (home / "logs" / "nats.log").write_text("a line\n" * 20_000)
    variables = _environment(home)

    for shell in ('"$@" >&- 2>&-', '"$@" | true', '"$@" >/dev/full'):
        for command in (
            ("--help",),
            ("keys", "list", "--help"),
            ("status", "--json"),
            ("logs", "-n", "20000"),
        ):
            done = _run(*command, cwd=tmp_path, variables=variables, shell=shell)
            assert "Traceback" not in done.stderr, (shell, command)
            assert "Exception ignored" not in done.stderr, (shell, command)
            if "full" in shell:
                assert done.returncode == 1, command
                assert "No space left on device" in done.stderr, command


@pytest.mark.parametrize(
    "locale",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_an_output_without_unicode_is_no_traceback(locale: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "höme"
    claim(home)
    (home / "logs" / "nats.log").write_text("✓ 日本\n")

    for command in (("logs",), ("status",)):
        done = _run(*command, cwd=tmp_path, variables=_environment(home, **locale))
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1)


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    variables = _environment("relative")

    done = _run("status", cwd=gone, variables=variables, shell='rmdir "$PWD"; exec "$@"')

    _assert_one_line(done, 2)
    assert "current folder" in done.stderr


def test_two_services_on_one_port_are_a_wrong_setting(tmp_path: Path) -> None:
    variables = _environment(tmp_path / "home", ANTIPHON_API_PORT="8001")

    done = _run("up", "--no-call", cwd=tmp_path, variables=variables)

    _assert_one_line(done, 2)
    assert "ANTIPHON_API_PORT and ANTIPHON_WEBHOOKS_PORT are both 8001" in done.stderr


def test_a_host_that_is_not_this_machine_is_refused_at_once(tmp_path: Path) -> None:
    settings = isolated_settings(tmp_path / "home", api_host="192.0.2.1")

    done = _run("up", "--no-call", cwd=tmp_path, variables=_environment("", **settings.environment()))

    _assert_one_line(done, 1)
    assert "ANTIPHON_API_HOST is '192.0.2.1'" in done.stderr
