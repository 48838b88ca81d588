"""The commands as processes, on a stack with stub services."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    result = antiphon("status", "--json")

    assert result.returncode == 0
    assert json.loads(result.stdout)["home"] == str(stack.settings.home)
    assert all(service["ready"] for service in json.loads(result.stdout)["services"])


def test_status_needs_only_the_folder(stack: EmbeddedStack) -> None:
    result = _run("status", "--json", ANTIPHON_HOME=str(stack.settings.home))

    assert json.loads(result.stdout)["api_url"] == stack.status().addresses.api_url


def test_status_table_names_every_service(antiphon: Run) -> None:
    result = antiphon("status")

    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:8]] == [
        "nats",
        "postgres",
        "livekit",
        "persistence",
        "session-api",
        "webhook-ingest",
        "agent-worker",
    ]


@pytest.mark.parametrize("option", ["--agent", "--flow"])
def test_call_of_nobody_is_refused(antiphon: Run, option: str) -> None:
    result = antiphon("call", option, "")

    assert result.returncode == 2
    assert "take a name" in result.stderr


def test_second_up_prints_the_addresses_and_changes_nothing(antiphon: Run, stack: EmbeddedStack) -> None:
    before = stack.status()

    result = antiphon("up")

    assert result.returncode == 0
    assert "is already up" in result.stdout
    assert before.addresses.api_url in result.stdout
    assert str(before.addresses.api_key) in result.stdout
    assert stack.status() == before


def test_logs_of_one_service(antiphon: Run) -> None:
    assert antiphon("logs", "session-api").stdout.strip().splitlines()[-1] == "serving"


def test_logs_of_all_services_have_a_prefix(antiphon: Run) -> None:
    assert "session-api    serving" in antiphon("logs").stdout


def test_logs_of_an_unknown_service_name_the_known_ones(antiphon: Run) -> None:
    result = antiphon("logs", "sessions-api")

    assert result.returncode == 1
    assert "session-api" in result.stderr


def test_status_without_a_stack(tmp_path: Path) -> None:
    result = _run("status", "--json", ANTIPHON_HOME=str(tmp_path))

    assert result.returncode == 1
    assert json.loads(result.stdout)["services"] == []
    assert json.loads(result.stdout)["api_key"] is None


@pytest.mark.parametrize("command", ["call", "sessions", "tail"])
def test_command_without_a_stack_prints_how_to_start_one(tmp_path: Path, command: str) -> None:
    result = _run(command, ANTIPHON_HOME=str(tmp_path))

    assert result.returncode == 1
    assert re.search(r"run `\S*antiphon up`", result.stderr)
    assert "Traceback" not in result.stderr


def test_down_without_a_stack(tmp_path: Path) -> None:
    result = _run("down", ANTIPHON_HOME=str(tmp_path))

    assert result.returncode == 0
    assert "was not up" in result.stdout


def test_wrong_setting_exits_with_code_2(tmp_path: Path) -> None:
    result = _run("up", ANTIPHON_HOME=str(tmp_path), ANTIPHON_API_PORT="http")

    assert result.returncode == 2
    assert "ANTIPHON_API_PORT is 'http'" in result.stderr


def test_api_url_needs_a_key() -> None:
    result = _run("sessions", ANTIPHON_API_URL="http://127.0.0.1:1", ANTIPHON_API_KEY="")

    assert result.returncode != 0
    assert "ANTIPHON_API_KEY" in result.stderr


def test_api_url_is_used_without_a_stack(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        request = ThreadPoolExecutor(1).submit(_refuse, server)
        result = _run(
            "sessions", ANTIPHON_HOME=str(tmp_path), ANTIPHON_API_URL=url, ANTIPHON_API_KEY="ak_test"
        )

    assert result.returncode == 1
    assert "401" in result.stderr
    assert request.result().startswith("GET /v1/sessions")
    assert "\r\nauthorization: bearer ak_test\r\n" in request.result().lower()


def _refuse(server: socket.socket) -> str:
    """Answer one request with 401; return the request."""
    server.settimeout(60)
    connection, _ = server.accept()
    with connection:
        request = connection.recv(65536).decode()
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return request
