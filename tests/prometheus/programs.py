"""Prometheus and promtool: those on PATH, else those of Debian's package, unpacked into the cache."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from antiphon.chassis.settings import load
from antiphon.cli.settings import StackSettings

PACKAGE = "prometheus"
NAMES = ("prometheus", "promtool")
SECONDS = 300.0
MISSING = """\
these tests need Prometheus and promtool: install them (apt-get install prometheus), and repeat.
On Debian they are unpacked into the cache if apt knows its packages (apt-get update): {reason}"""


@dataclass(frozen=True, slots=True)
class Programs:
    """The paths of both programs."""

    prometheus: Path
    promtool: Path

    def check(self, *arguments: str | Path, text: str = "") -> str:
        """Run promtool on files or a text, and return what it prints; fail the test if promtool refuses."""
        command = [self.promtool, *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        return done.stdout


def find() -> Programs:
    """Return both programs, or end the run with what to do."""
    found = [shutil.which(name) for name in NAMES]
    if all(found):
        return Programs(*(Path(str(path)) for path in found))
    folder = load(StackSettings).cache / "prometheus-of-debian"
    if not folder.exists():
        _unpack(folder)
    return Programs(*(folder / "usr" / "bin" / name for name in NAMES))


def _unpack(folder: Path) -> None:
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        pytest.exit(MISSING.format(reason="this machine has no apt-get"), returncode=1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        _run("apt-get", "download", "-q", PACKAGE, folder=draft)
        [package] = Path(draft).glob("*.deb")
        _run("dpkg-deb", "--extract", str(package), "unpacked", folder=draft)
        try:
            (Path(draft) / "unpacked").replace(folder)
        except OSError:  # another process was first
            if not folder.exists():
                raise


def _run(*command: str, folder: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=dict(os.environ),
    )
    if done.returncode != 0:
        pytest.exit(MISSING.format(reason=done.stderr.strip()[-1000:]), returncode=1)


if __name__ == "__main__":  # gets them, so that a run of the tests can be left out where that is impossible
    try:
        find()
    except pytest.exit.Exception as error:
        raise SystemExit(f"{error}") from None
