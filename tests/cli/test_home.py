import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli.errors import StackError
from antiphon.cli.home import IGNORE, MARKER, claim, lock_file, one_command, supervisor_of, take_lock


def test_new_folder_is_private_marked_and_ignored_by_git(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"

    claim(home)
    claim(home)

    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / IGNORE).read_text() == "*\n"
    assert (home / MARKER).exists()


@pytest.mark.parametrize(
    "content",
    [
        {"thesis.tex": ""},
        {".gitignore": "*.pyc\n", "main.py": ""},
        {".gitignore": "*\n", "python": ""},
        {".gitignore": "*\n", "credentials.json": "{}", "thesis.tex": ""},
        {"logs": ""},
    ],
)
def test_a_folder_of_something_else_is_refused_and_unchanged(content: dict[str, str], tmp_path: Path) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    tmp_path.chmod(0o755)

    with pytest.raises(StackError, match="not the folder of a stack"):
        claim(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content


def test_a_folder_of_an_earlier_version_is_recognised(tmp_path: Path) -> None:
    (tmp_path / IGNORE).write_text("*\n")
    (tmp_path / "credentials.json").write_text("{}")
    (tmp_path / "supervisor.lock").touch()
    for folder in ("logs", "nats", "postgres", "livekit", "journal"):
        (tmp_path / folder).mkdir()

    claim(tmp_path)

    assert (tmp_path / MARKER).exists()


def test_credentials_stay_ignored_by_git(tmp_path: Path) -> None:
    claim(tmp_path)
    (tmp_path / IGNORE).write_text("logs/\n")

    claim(tmp_path)

    assert (tmp_path / IGNORE).read_text() == "*\n"


@pytest.mark.parametrize("home", ["/proc/antiphon", "/dev/null", "/dev/null/home", "/sys/kernel"])
def test_a_folder_that_cannot_be_used_is_refused_in_a_line(home: str) -> None:
    with pytest.raises(StackError) as refused:
        claim(Path(home))

    assert home in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_lock_says_which_supervisor_is_alive(tmp_path: Path) -> None:
    assert supervisor_of(tmp_path) is None
    lock = take_lock(tmp_path)
    assert lock is not None
    assert supervisor_of(tmp_path) == os.getpid()
    assert take_lock(tmp_path) is None
    assert supervisor_of(tmp_path) == os.getpid()

    lock.close()

    assert supervisor_of(tmp_path) is None


def test_a_lock_of_nobody_known_is_an_error(tmp_path: Path) -> None:
    lock = lock_file(tmp_path / "supervisor.lock")
    assert lock is not None

    with pytest.raises(StackError, match="does not say by which process"):
        supervisor_of(tmp_path)


def test_commands_exclude_each_other_until_their_process_ends(tmp_path: Path) -> None:
    script = (
        "import time, pathlib, sys; from antiphon.cli.home import one_command\n"
        f"with one_command(pathlib.Path({str(tmp_path)!r}), seconds=1):\n"
        "    print('locked', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StackError, match="another command"), one_command(tmp_path, seconds=0.2):
            pass
    finally:
        other.kill()
        other.communicate()

    with one_command(tmp_path, seconds=10):
        pass
