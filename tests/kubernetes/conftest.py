"""One control plane for all tests of a run; each test that installs the chart has a namespace of its own."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.figures import Figures
from tests.kubernetes.pod_runner import PodRunner
from tests.kubernetes.programs import Built
from tests.kubernetes.release import Release, create_database, start_nats
from tests.kubernetes.service_names import ServiceNames

from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit import Keys
from antiphon.cli.stack.postgres import Postgres

ROOT = Path(__file__).parents[2]
SECONDS = 900  # of a test: it waits for autoscalers, on a machine that may have other work

_figures = pytest.StashKey[Figures]()

NewRelease = Callable[[str], Release]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder their own deadline."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_configure(config: pytest.Config) -> None:
    """Begin the figures."""
    config.stash[_figures] = Figures()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the times, and write them."""
    figures = config.stash[_figures]
    if figures.seconds:
        terminalreporter.section("times")
        terminalreporter.write(f"{figures.table()}\n")
        figures.write(ROOT / "bench-results")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """The times of this run."""
    return pytestconfig.stash[_figures]


@pytest.fixture(scope="session")
def built() -> Built:
    """The programs of the control plane."""
    built = Built.of(StackSettings().cache)
    missing = ", ".join(program.name for program in built.missing())
    assert built.complete(), f"not built: {missing}; make test-kubernetes builds them"
    return built


@pytest.fixture(scope="session")
def names() -> Iterator[ServiceNames]:
    """The names of Services, for KEDA and for `helm test`."""
    names = ServiceNames()
    yield names
    names.close()


@pytest.fixture(scope="session")
def plane(
    tmp_path_factory: pytest.TempPathFactory, built: Built, names: ServiceNames, figures: Figures
) -> Iterator[ControlPlane]:
    """The control plane."""
    plane = ControlPlane(tmp_path_factory.mktemp("plane"), built, proxy=names.url)
    try:
        with figures.measure("control plane: nothing → nodes, KEDA and metrics ready"):
            plane.start()
        yield plane
    finally:
        with figures.measure("control plane: stop"):
            plane.stop()


@pytest.fixture
def bare_plane(tmp_path: Path, built: Built) -> Iterator[ControlPlane]:
    """A second control plane beside it, without KEDA and metrics."""
    plane = ControlPlane(tmp_path / "plane", built, autoscaling=False)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def runner(
    plane: ControlPlane, names: ServiceNames, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PodRunner]:
    """What runs the pods of Jobs and of `helm test`."""
    with plane.client() as client:
        runner = PodRunner(client, tmp_path_factory.mktemp("pods"), names.environment)
        runner.start()
        yield runner
        runner.stop()


@pytest.fixture(scope="module")
def new_release(
    plane: ControlPlane,
    runner: PodRunner,
    names: ServiceNames,
    embedded_postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NewRelease]:
    """Make a release, not installed yet, in a new restricted namespace, with its own NATS and database."""
    made: list[Release] = []

    def make(name: str) -> Release:
        namespace = f"{name}-{secrets.token_hex(3)}"
        folder = tmp_path_factory.mktemp(namespace)
        nats, monitoring = start_nats(folder / "nats")
        release = Release(
            plane=plane,
            runner=runner,
            names=names,
            namespace=namespace,
            folder=folder,
            nats=nats,
            monitoring=monitoring,
            dsn=create_database(embedded_postgres, namespace),
            livekit_url="ws://livekit.voice.svc:7880",
            livekit_keys=Keys.generate(),
            api_key=secrets.token_urlsafe(36),
        )
        made.append(release)
        release.create_namespace()
        return release

    yield make
    for release in made:
        release.delete_namespace()
        release.nats.stop()
