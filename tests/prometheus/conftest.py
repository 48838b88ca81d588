"""Prometheus beside the whole platform, for the tests that `make test-prometheus` runs."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings
from tests.prometheus.programs import Programs, find
from tests.prometheus.server import Prometheus

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import process
from antiphon.cli.stack.ports import free_port
from antiphon.cli.supervisor.setup import credentials_of

SECONDS = 600  # of a test: the first one starts the platform and makes a call
CAPACITY = 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder their own deadline."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Prometheus and promtool."""
    return find()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """The platform of one machine; its worker takes a number of calls that it says."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ANTIPHON_AGENT_CALLS", str(CAPACITY))
        with EmbeddedStack(isolated_settings(tmp_path_factory.mktemp("stack"))) as running:
            yield running


@pytest.fixture(scope="session")
def fleet(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The service fleet, which the embedded stack has no use for; its port."""
    port = free_port()
    nats = stack.status().addresses.nats_url
    command = process.Command(
        argv=(sys.executable, "-m", "antiphon.fleet"),
        environment={**os.environ, "ANTIPHON_NATS_URL": nats, "ANTIPHON_FLEET_PORT": str(port)},
        directory=stack.settings.home,
    )
    running = process.spawn(command, tmp_path_factory.mktemp("fleet") / "fleet.log")
    yield port
    process.stop(running, command.stop_signals, timeout_seconds=20)


def port_of(settings: StackSettings, variable: str) -> int:
    """Return the port that a variable of the stack sets."""
    fields = StackSettings.model_fields.items()
    name = next(name for name, field in fields if field.validation_alias == variable)
    return int(getattr(settings, name))


@pytest.fixture(scope="session")
def targets(stack: EmbeddedStack, fleet: int) -> Mapping[str, str]:
    """Where each service serves its metrics."""
    ports = {
        "session-api": port_of(stack.settings, "ANTIPHON_API_METRICS_PORT"),
        "webhook-ingest": port_of(stack.settings, "ANTIPHON_WEBHOOKS_METRICS_PORT"),
        "persistence": stack.settings.persistence_health_port,
        "agent-worker": stack.settings.agent_health_port,
        "fleet": fleet,
    }
    return {job: f"127.0.0.1:{port}" for job, port in ports.items()}


@pytest.fixture(scope="session")
def prometheus(
    programs: Programs, targets: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes all services."""
    server = Prometheus(programs, tmp_path_factory.mktemp("prometheus"), targets)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def api_key(stack: EmbeddedStack) -> str:
    """The key of the stack."""
    return credentials_of(stack.settings).api_key
