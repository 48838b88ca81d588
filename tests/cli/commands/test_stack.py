"""What `antiphon up` and `antiphon down` print while one waits."""

import time

import pytest

from antiphon.cli.commands.stack import _build_line, _print_stopped
from antiphon.cli.screen import progress
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit_build import PACKAGES, VERSION, Progress
from antiphon.cli.supervisor.state import ServiceState, State, addresses_of

NAMES = ("nats", "postgres", "session-api")


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (Progress(3.2, modules=40), "40 modules downloaded, 0 packages compiled (0 %), 3 s"),
        (
            Progress(60, 100, PACKAGES // 2),
            f"100 modules downloaded, {PACKAGES // 2} packages compiled (49 %), 60 s",
        ),
        (
            Progress(90, 100, PACKAGES + 5),
            f"100 modules downloaded, {PACKAGES + 5} packages compiled (99 %), 90 s",
        ),
        (Progress(150, 100, PACKAGES, linking=True), "all packages compiled, linking the program, 150 s"),
    ],
)
def test_a_build_says_how_far_it_is(build: Progress, line: str) -> None:
    assert _build_line(build) == f"Building livekit-server {VERSION}, once: {line}"


def test_the_other_steps_of_a_build_have_a_line() -> None:
    assert _build_line(Progress(5, cleaning=True)) == "Removing the files of the build, 5 s"
    assert _build_line(Progress(5, waiting=True)) == "Waiting for another build of livekit-server, 5 s"


def _state(*details: str) -> State:
    services = [
        ServiceState(name, pid=None if detail == "stopped" else 1, detail=detail)
        for name, detail in zip(NAMES, details, strict=True)
    ]
    return State(1, addresses_of(StackSettings()), "stopping", services=services)


def test_stopping_prints_what_it_waits_for_and_what_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    done: set[str] = set()
    seen: list[str] = []
    for details in (
        ("ready", "ready", "ready"),
        ("ready", "ready", "stopping"),
        ("ready", "stopping", "stopped"),
        ("stopped", "stopped", "stopped"),
    ):
        _print_stopped(_state(*details), done, time.monotonic(), seen.append)

    assert seen == [f"Waiting for {name} to end, 0 s" for name in ("session-api", "session-api", "postgres")]
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "session-api",
        "postgres",
        "nats",
    ]


def test_the_first_line_of_a_wait_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Stopping", at_once=True) as update:
        update("Waiting for nats to end")
        update("Waiting for postgres to end")
    with progress("Starting") as update:
        update("Starting nats")

    assert capsys.readouterr().out == "Waiting for nats to end\n"
