"""Parallel test runs, and the real servers that tests use.

Each worker process has a NATS server and a Postgres server of its own, embedded or in containers
(`tests/fixtures/backend.py`), started once, on free ports, emptied before each test. Tests that share a
costly fixture, or that must not run at the same time, are one group.
"""

import asyncio
import atexit
import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from tests.fixtures import backend, leftovers
from tests.fixtures.broker import make_anew
from tests.fixtures.groups import GroupScheduling, group_of, write_groups
from tests.fixtures.template_database import clone_template

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.disk import MAX_STORE_BYTES
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres

# `antiphon env` may have set these in the shell; no test may reach that stack
OF_A_STACK = ("ANTIPHON_API_URL", "ANTIPHON_API_KEY", "ANTIPHON_POSTGRES_DSN", "ANTIPHON_NATS_URL")
TEMPLATE = "antiphon_template"
TESTS = Path(__file__).parent
Server = TypeVar("Server", NatsServer, Postgres)
NICE = 10  # of all workers but the one with the calls, whose audio needs the CPU in time

# A test that uses the fixture belongs to the group and gets the marks; one worker runs a group, in order.
# Groups start first, the longest before the others: it determines how long the run takes.
GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("stub_supervisor", "stacks", ("livekit",)),
    ("live_sessions", "agents", ("audio", "livekit")),
    ("stack", "calls", ("audio", "livekit")),  # one call of the journeys speaks at a time
    ("livekit_program", "livekit", ("audio", "livekit")),
    ("loaded", "recognition", ("audio",)),
)
# Journeys in these folders are of the group of the agents, and come after them, on a stack of their own: so
# two workers share the tests that take as long as a call, and no third speaks at the same time.
AFTER_AGENTS = ("journeys/turns", "journeys/providers")
ORDER = ("calls", "agents", "packaging", "stacks", "run", "livekit", "recognition")

# The time that an example takes depends on what else runs.
settings.register_profile("parallel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parallel")

_run = pytest.StashKey[leftovers.Run]()
_left = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Create the run's folders, in the main process; workers find them in the environment."""
    for name in OF_A_STACK:
        os.environ.pop(name, None)
    if hasattr(config, "workerinput"):
        gc.disable()  # until all is collected: imports make a million objects and no garbage
    else:
        backend.check()
        config.stash[_run] = leftovers.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Distribute the tests by group."""
    return GroupScheduling(config, log)


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the modules and the tests, which stay until the end."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # libraries look for leaks when the process ends
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Assign each test to its group, and sort groups before the other tests."""
    for item in items:
        for fixture, group, marks in GROUPS:
            if fixture in getattr(item, "fixturenames", ()):
                for mark in marks:
                    item.add_marker(mark)
                item.add_marker(pytest.mark.xdist_group("agents" if _is_after_agents(item) else group))
                break
    items.sort(key=_rank)
    if hasattr(config, "workerinput"):
        write_groups(items)


def _is_after_agents(item: pytest.Item) -> bool:
    return item.path.parent.relative_to(TESTS).as_posix() in AFTER_AGENTS


def _rank(item: pytest.Item) -> int:
    group = group_of(item)
    return ORDER.index(group) if group in ORDER else len(ORDER)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lower the priority of a worker, and of all that it starts, once it runs anything but calls."""
    if (
        hasattr(item.config, "workerinput")
        and group_of(item) not in ("calls", "agents")
        and os.nice(0) < NICE
    ):
        os.nice(NICE - os.nice(0))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """End the run; fail it if something was left behind."""
    yield
    run = session.config.stash.get(_run, None)
    if run:
        session.config.stash[_left] = leftovers.end(run, keep=exitstatus == pytest.ExitCode.TESTS_FAILED)
        if session.config.stash[_left] and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folders of a run that ended before its first test."""
    run = config.stash.get(_run, None)
    if run and _left not in config.stash:
        leftovers.remove(run.folders)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the servers of the tests, what was left behind, and the folder of a failed run."""
    if backend.chosen() == backend.CONTAINERS:
        reports = [report for found in terminalreporter.stats.values() for report in found]
        terminalreporter.write_line(backend.summary(reports))
    run, left = config.stash.get(_run, None), config.stash.get(_left, [])
    if left:
        terminalreporter.section("left behind", red=True)
        terminalreporter.write("\n".join(left) + "\n")
    if run and run.folder.exists():
        terminalreporter.write_line(f"the files of this run are in {run.folder}")


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the data of servers, in memory if possible: every test waits for fsync."""
    memory = os.environ.get(leftovers.MEMORY)
    if not memory:
        return tmp_path_factory.mktemp("servers")
    folder = Path(memory) / os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def embedded_nats(server_folder: Path) -> Iterator[NatsServer]:
    server = NatsServer(server_folder / "nats", max_store_bytes=MAX_STORE_BYTES)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def containers_nats(server_folder: Path) -> Iterator[NatsServer]:
    from tests.fixtures.container_servers import ContainerNats

    server = ContainerNats(server_folder / "nats-container", max_store_bytes=MAX_STORE_BYTES)
    try:
        server.start()
        yield server
    finally:
        server.container.remove()


@pytest.fixture
def nats_server(request: pytest.FixtureRequest) -> NatsServer:
    """A NATS server with JetStream; a test may stop, kill and start it."""
    server: NatsServer = request.getfixturevalue(f"{backend.of_test(request.node)}_nats")
    return _running(server)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connected bus: streams, consumers and buckets are new and empty."""
    bus = await Bus.connect(nats_server.url, name="test")
    await make_anew(bus)
    yield bus
    await bus.close()


@pytest.fixture(scope="session")
def embedded_postgres(server_folder: Path) -> Iterator[Postgres]:
    server = Postgres(server_folder / "postgres")
    server.start()
    yield server
    _running(server).stop()  # one that was killed left shared memory, which a start removes


@pytest.fixture(scope="session")
def containers_postgres(server_folder: Path) -> Iterator[Postgres]:
    from tests.fixtures.container_servers import ContainerPostgres

    server = ContainerPostgres(server_folder / "postgres-container")
    try:
        server.start()
        yield server
    finally:
        server.container.remove()


@pytest.fixture
def postgres_server(request: pytest.FixtureRequest) -> Postgres:
    """A Postgres server; a test may stop, kill and start it."""
    server: Postgres = request.getfixturevalue(f"{backend.of_test(request.node)}_postgres")
    return _running(server)


@pytest.fixture(scope="session")
def databases_of() -> dict[int, list[str]]:
    """The databases of earlier tests, by the port of the server, to drop when the next one is created."""
    return {}


@pytest.fixture
def template_database(postgres_server: Postgres, databases_of: dict[int, list[str]]) -> str:
    """The name of a migrated, empty database, made once for each server."""
    from antiphon.persistence.migrations import migrate

    if postgres_server.port not in databases_of:
        asyncio.run(_execute(postgres_server, f'create database "{TEMPLATE}"'))
        migrate(postgres_server.dsn_of(TEMPLATE))
        databases_of[postgres_server.port] = []
    return TEMPLATE


@pytest.fixture
async def postgres_dsn(
    postgres_server: Postgres, template_database: str, databases_of: dict[int, list[str]]
) -> str:
    """The address of a database of this test's own, migrated and empty."""
    name, used = f"test_{os.getpid()}_{uuid4().hex[:12]}", databases_of[postgres_server.port]
    await clone_template(postgres_server.dsn_of("postgres"), template_database, name, drop=used)
    used[:] = [name]
    return postgres_server.dsn_of(name)


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A connected database of this test's own, migrated and empty."""
    database = await Database.connect(postgres_dsn, min_size=0, max_size=8)
    yield database
    await database.close()


def _running(server: Server) -> Server:
    container = getattr(server, "container", None)
    if container is not None:
        runs = container.running
    else:
        runs = server.process is not None and server.process.poll() is None
    if not runs:
        server.start()  # the test before has left it stopped
    return server


async def _execute(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn_of("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
