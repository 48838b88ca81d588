"""The installation of `make up` says how far it is, and fails as pip does."""

import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli import install
from antiphon.cli.install import Installation

PROGRAM = Path(install.__file__)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(
        "a==1 \\\n    --hash=sha256:0\nb[x]==2 ; sys_platform == 'win32' \\\n    --hash=sha256:1\nc-d==3\n"
    )
    return path


def test_packages_are_counted_as_pip_names_them(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(["--require-hashes", "-r", str(lock), "-e", "./e"])
    seen = [str(installation)]
    for line in (
        "Ignoring b: markers \"sys_platform == 'win32'\" don't match your environment",
        "Collecting a==1 (from -r requirements.lock (line 1))",
        "  Downloading a-1-py3-none-any.whl (10 kB)",
        "Requirement already satisfied: c-d==3 in ./lib",
        "Obtaining file:///e",
    ):
        installation.read(line)
        seen.append(str(installation))
    assert seen[0] == "0 of 4 packages collected"
    assert seen[-1] == "3 of 3 packages collected"

    installation.read("Installing collected packages: a, c-d, e")
    monkeypatch.setattr(install, "_installed_since", lambda _: 2)
    assert str(installation) == "2 of 3 packages installed"


def test_lines_are_printed_while_it_takes_time(tmp_path: Path) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text("import time; print('Collecting a==1', flush=True); time.sleep(1.5)")
    program = (
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import install\n"
        f"install.PIP = ({sys.executable!r}, {str(fake)!r}); install.PLAIN_SECONDS = 0.1\n"
        "sys.exit(install.main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    lines = done.stdout.splitlines()
    assert len(lines) >= 2
    assert "1 of 1 packages collected, " in lines[-1]


def test_an_error_of_pip_is_shown_and_is_the_exit_code(tmp_path: Path) -> None:
    missing = tmp_path / "missing.lock"
    missing.write_text("no-such-package==1 --hash=sha256:" + "0" * 64 + "\n")
    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, "--no-index", "--require-hashes", "-r", missing],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "No matching distribution found for no-such-package==1" in done.stderr
