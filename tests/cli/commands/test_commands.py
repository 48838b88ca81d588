"""The commands in a shell, on a stack with small services."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.embedded import EmbeddedStack

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, stub_supervisor: tuple[str, ...]
) -> Iterator[EmbeddedStack]:
    settings = isolated_settings(tmp_path_factory.mktemp("stack") / "home")
    with EmbeddedStack(settings, supervisor=stub_supervisor) as stack:
        yield stack


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        [ANTIPHON, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def antiphon(stack: EmbeddedStack) -> Run:
    return lambda *arguments: _run(*arguments, **stack.settings.environment())


def test_status_as_json(antiphon: Run, stack: EmbeddedStack) -> None:
    answer = antiphon("status", "--json")

    assert answer.returncode == 0
    assert json.loads(answer.stdout)["home"] == str(stack.settings.home)
    assert all(service["ready"] for service in json.loads(answer.stdout)["services"])


def test_status_needs_only_the_folder(stack: EmbeddedStack) -> None:
    answer = _run("status", "--json", ANTIPHON_HOME=str(stack.settings.home))

    assert json.loads(answer.stdout)["api_url"] == stack.status().addresses.api_url


def test_status_table_names_every_service(antiphon: Run) -> None:
    answer = antiphon("status")

    assert answer.returncode == 0
    assert [line.split()[0] for line in answer.stdout.splitlines()[1:8]] == [
        "nats",
        "postgres",
        "livekit",
        "persistence",
        "session-api",
        "webhook-ingest",
        "agent-worker",
    ]


def test_second_up_prints_the_addresses_and_changes_nothing(antiphon: Run, stack: EmbeddedStack) -> None:
    before = stack.status()

    answer = antiphon("up")

    assert answer.returncode == 0
    assert "is up already" in answer.stdout
    assert before.addresses.api_url in answer.stdout
    assert str(before.addresses.api_key) in answer.stdout
    assert stack.status() == before


def test_logs_of_one_service(antiphon: Run) -> None:
    assert antiphon("logs", "session-api").stdout.strip().splitlines()[-1] == "serving"


def test_logs_of_all_services_have_a_prefix(antiphon: Run) -> None:
    assert "session-api    serving" in antiphon("logs").stdout


def test_logs_of_an_unknown_service_lists_the_known_ones(antiphon: Run) -> None:
    answer = antiphon("logs", "sessions-api")

    assert answer.returncode == 1
    assert "session-api" in answer.stderr


def test_status_without_a_stack(tmp_path: Path) -> None:
    answer = _run("status", "--json", ANTIPHON_HOME=str(tmp_path))

    assert answer.returncode == 1
    assert json.loads(answer.stdout)["services"] == []
    assert json.loads(answer.stdout)["api_key"] is None


@pytest.mark.parametrize("command", ["call", "sessions", "tail"])
def test_command_without_a_stack_prints_how_to_start_one(tmp_path: Path, command: str) -> None:
    answer = _run(command, ANTIPHON_HOME=str(tmp_path))

    assert answer.returncode == 1
    assert re.search(r"run `\S*antiphon up`", answer.stderr)
    assert "Traceback" not in answer.stderr


def test_down_without_a_stack(tmp_path: Path) -> None:
    answer = _run("down", ANTIPHON_HOME=str(tmp_path))

    assert answer.returncode == 0
    assert "was not up" in answer.stdout


def test_wrong_setting_exits_with_code_2(tmp_path: Path) -> None:
    answer = _run("up", ANTIPHON_HOME=str(tmp_path), ANTIPHON_API_PORT="http")

    assert answer.returncode == 2
    assert "ANTIPHON_API_PORT is 'http'" in answer.stderr


def test_given_api_needs_a_key() -> None:
    answer = _run("sessions", ANTIPHON_API_URL="http://127.0.0.1:1", ANTIPHON_API_KEY="")

    assert answer.returncode != 0
    assert "ANTIPHON_API_KEY" in answer.stderr


def test_given_api_is_used_without_a_stack(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        answer = _run(
            "sessions", ANTIPHON_HOME=str(tmp_path), ANTIPHON_API_URL=url, ANTIPHON_API_KEY="ak_test"
        )

    assert answer.returncode == 1
    assert f"session-api does not answer at {url}" in answer.stderr
