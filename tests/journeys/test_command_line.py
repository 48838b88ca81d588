"""The commands call, sessions, show and tail against a running stack."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.cli.embedded import EmbeddedStack

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def antiphon(stack: EmbeddedStack) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | stack.settings.environment()
        return subprocess.run(
            [ANTIPHON, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_call_is_printed_and_can_be_listed_tailed_and_shown(antiphon: Run) -> None:
    call = antiphon("call", "--say", "hello|thank you good bye")

    assert call.returncode == 0, call.stderr
    words = [line for line in call.stdout.splitlines() if line.startswith(("caller", "agent"))]
    assert "caller  hello" in words
    assert "caller  thank you good bye" in words
    assert words[0].startswith("agent   Good evening")

    (session,) = set(re.findall(r"ses_\w+", call.stdout))
    assert session in antiphon("sessions").stdout

    tail = antiphon("tail", session)  # to the session's last event
    assert tail.returncode == 0
    assert "session.requested" in tail.stdout.splitlines()[0]
    assert "session.closed" in tail.stdout  # events of the room may follow

    show = antiphon("show", session).stdout
    assert re.search(r"1  caller +hello", show)
    assert "turn.saved" in show


def test_tail_shows_new_sessions(stack: EmbeddedStack, antiphon: Run) -> None:
    environment = os.environ | stack.settings.environment()
    with subprocess.Popen([ANTIPHON, "tail"], env=environment, stdout=subprocess.PIPE, text=True) as tail:
        antiphon("call", "--say", "thank you good bye")
        assert tail.stdout is not None
        seen = next(line for line in tail.stdout if "session.closed" in line)
        tail.terminate()

    assert "…" in seen


def test_unknown_flow_is_reported_without_a_traceback(antiphon: Run) -> None:
    call = antiphon("call", "--flow", "no-such-flow")

    assert call.returncode == 1
    assert "404" in call.stderr
    assert "Traceback" not in call.stderr


def test_call_passes_metadata_and_refuses_what_is_none(antiphon: Run) -> None:
    call = antiphon("call", "--flow", "survey", "--metadata", "guest=Grace Hopper", "--say", "no thank you")

    assert call.returncode == 0, call.stderr
    assert "agent   Hello Grace Hopper." in call.stdout

    wrong = antiphon("call", "--variable", "guest")
    assert wrong.returncode == 2
    assert "'guest' is not NAME=VALUE" in wrong.stderr


def test_call_without_an_agent_exits_with_1_and_the_reason(antiphon: Run, stack: EmbeddedStack) -> None:
    pid = next(service.pid for service in stack.status().services if service.name == "agent-worker")
    assert pid is not None
    os.kill(pid, 9)  # restarted after the caller's timeout

    call = antiphon("call", "--ready-within", "1")

    assert call.returncode == 1
    assert "no agent became ready" in call.stderr
    deadline = time.monotonic() + 60
    while not stack.status().ready:
        assert time.monotonic() < deadline
        time.sleep(0.1)
