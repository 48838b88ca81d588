"""Run the installed command: its version, its help, and what it says without a server."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("antiphon")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with a server that does not answer."""
    environment = {**os.environ, "ANTIPHON_API_URL": "http://127.0.0.1:1", "ANTIPHON_API_KEY": "key"}
    return subprocess.run(
        [PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


assert run("--version").stdout == f"antiphon {version('antiphon-cli')}\n"
usage = run("--help")
assert usage.returncode == 0, usage.stderr
assert "export" in usage.stdout, usage.stdout
without_server = run("sessions")
assert without_server.returncode == 1, without_server
assert "127.0.0.1:1" in without_server.stderr, without_server
for command in ("status", "env", "logs"):  # a client has them too, for the stack of another environment
    said = run(command)
    assert said.returncode == 1, said
    assert "Traceback" not in said.stderr, said
without_stack = run("up")
assert without_stack.returncode != 0, without_stack
assert "needs the embedded stack" in without_stack.stderr, without_stack
print(f"antiphon {version('antiphon-cli')} answers, and says what is missing")
