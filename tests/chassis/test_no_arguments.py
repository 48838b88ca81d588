"""A service that has settings only says so, instead of starting with arguments that it does not read."""

import subprocess
import sys

import pytest

SERVICES = ("antiphon.fleet", "antiphon.session_api", "antiphon.webhook_ingest")


def started(module: str, argument: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, argument]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", SERVICES)
def test_help_starts_nothing(module: str) -> None:
    said = started(module, "--help")

    assert said.returncode == 0, said
    assert said.stdout.startswith(f"usage: python -m {module}")


@pytest.mark.parametrize("module", SERVICES)
def test_an_argument_is_refused(module: str) -> None:
    said = started(module, "--port=1")

    assert said.returncode == 2, said
    assert "unrecognized arguments: --port=1" in said.stderr
