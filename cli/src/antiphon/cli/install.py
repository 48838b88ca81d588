"""Run `pip install` with these arguments and say how far it is: `make` runs this file by its path.

Nothing is installed then, so it imports the standard library only. On a terminal one line is written
again and again, elsewhere a new one every few seconds.
"""

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from itertools import pairwise
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
REQUIREMENT = re.compile(r"^[A-Za-z0-9][\w.-]*(\[[^\]]*\])?==", re.MULTILINE)
TERMINAL_SECONDS = 0.5  # between two lines
PLAIN_SECONDS = 5.0
CLEAR_LINE = "\r\x1b[2K"


class Installation:
    """What `pip install` has said so far."""

    def __init__(self, arguments: list[str]) -> None:
        self.expected = _requirements(arguments)
        self.collected = 0
        self.installing = 0  # packages; 0 until all are collected
        self._before = time.time()

    def read(self, line: str) -> None:
        """Take in a line of pip's output."""
        line = line.strip()
        if line.startswith("Ignoring "):  # a requirement for other platforms
            self.expected -= 1
        elif line.startswith(("Collecting ", "Obtaining ", "Processing ", "Requirement already satisfied:")):
            self.collected += 1
        elif line.startswith("Installing collected packages: "):
            self.installing = line.count(",") + 1

    def __str__(self) -> str:
        if self.installing:
            done, of, verb = (
                min(_installed_since(self._before), self.installing),
                self.installing,
                "installed",
            )
        else:
            done, of, verb = self.collected, self.expected, "collected"
        return f"{done} of {max(of, done)} packages {verb}"


def _requirements(arguments: list[str]) -> int:
    """Return how many packages these arguments of pip name."""
    files = [Path(name) for option, name in pairwise(arguments) if option == "-r"]
    listed = sum(len(REQUIREMENT.findall(file.read_text())) for file in files)
    return listed + arguments.count("-e")


def _installed_since(before: float) -> int:
    """Return how many packages were installed since a time."""
    found = Path(sysconfig.get_path("purelib")).glob("*.dist-info")
    return sum(folder.stat().st_mtime >= before for folder in found)


def _show(installation: Installation, done: threading.Event) -> None:
    began = time.monotonic()
    terminal = sys.stdout.isatty()
    while not done.wait(TERMINAL_SECONDS if terminal else PLAIN_SECONDS):
        line = f"  {installation}, {time.monotonic() - began:.0f} s"
        print(f"{CLEAR_LINE}{line}" if terminal else line, end="" if terminal else "\n", flush=True)
    if terminal:
        print(CLEAR_LINE, end="", flush=True)


def main(arguments: list[str]) -> int:
    """Install, and return pip's exit code; its warnings and errors go to standard error."""
    installation, done = Installation(arguments), threading.Event()
    showing = threading.Thread(target=_show, args=(installation, done))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen((*PIP, *arguments), stdout=subprocess.PIPE, text=True, env=environment)
    showing.start()
    try:
        for line in process.stdout or ():
            installation.read(line)
        return process.wait()
    except KeyboardInterrupt:  # pip got it too
        process.wait()
        return 130
    finally:
        done.set()
        showing.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
