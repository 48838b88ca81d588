"""A test run leaves no process and no file behind, however it ends; a leak of a test fails the run."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.fixtures.leftovers import MEMORY

ROOT = Path(__file__).parents[2]
MARK = "ANTIPHON_TEST_OF_THE_RUN"  # in the environment of every process that such a run starts
END_SECONDS = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("run")]

USES_SERVERS = """
import pytest

@pytest.mark.parametrize("number", range(4))
async def test_with_servers(bus, database, tmp_path, number):
    (tmp_path / "file").touch()
    assert await database.pool.fetchval("select 1") == 1
"""
LEAVES_A_PROCESS = """
import subprocess, sys

def test_with_a_leak():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
"""
LEAVES_A_FILE = """
import tempfile

def test_with_a_leak():
    tempfile.mkstemp(prefix="forgotten")
"""
KILLS_POSTGRES = """
from antiphon.cli.stack.postgres import Postgres

def test_with_a_leak(tmp_path):
    server = Postgres(tmp_path / "postgres")
    server.start()
    server.kill()
"""
WAITS = """
import pathlib, time, subprocess, sys

def test_that_waits(nats_server):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path({started!r}).touch()
    time.sleep(600)
"""


def _heed_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts background jobs with SIGINT ignored


class Sandbox:
    """A place for a test run: its own home, temporary folder and memory folder."""

    def __init__(self, folder: Path) -> None:
        self.started = folder / "started"
        self.tests = folder / "tests"
        self.places = [folder / name for name in ("home", "temporary", "memory")]
        for path in (self.tests, *self.places):
            path.mkdir(mode=0o755)

    def run(self, test: str, *options: str) -> subprocess.Popen[str]:
        """Start pytest on one test, with the fixtures and hooks of tests/conftest.py."""
        (self.tests / "test_planted.py").write_text(test)
        home, temporary, memory = map(str, self.places)
        places = {"HOME": home, "TMPDIR": temporary, MEMORY: memory, MARK: str(self.tests)}
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
        command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(self.tests), *options]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | places
        return subprocess.Popen(
            [*command, str(self.tests)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_sigint,  # noqa: PLW1509 - it only sets a signal handler
            text=True,
            start_new_session=True,
        )

    def processes(self) -> Iterator[psutil.Process]:
        """Yield the processes of the run that still run, by their mark or their working directory."""
        for process in psutil.process_iter():
            try:
                folder = Path(process.cwd())
                marked = process.environ().get(MARK) == str(self.tests)
                if marked or any(folder.is_relative_to(place) for place in self.places):
                    yield process
            except (psutil.Error, OSError):
                continue

    def files(self) -> list[Path]:
        """Return the files in the places."""
        return [path for place in self.places for path in place.rglob("*")]

    def wait_until_empty(self) -> None:
        """Wait until no process is left."""
        left = psutil.wait_procs(list(self.processes()), timeout=END_SECONDS)[1]
        assert left == []


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which a Postgres of root cannot enter
        Path(folder).chmod(0o755)
        sandbox = Sandbox(Path(folder))
        yield sandbox
        for process in sandbox.processes():
            process.kill()


def _output(run: subprocess.Popen[str]) -> str:
    return run.communicate(timeout=END_SECONDS)[0]


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_leaves_nothing(sandbox: Sandbox) -> None:
    run = sandbox.run(USES_SERVERS, "-n", "2")
    output = _output(run)

    assert run.returncode == 0, output
    assert "4 passed" in output
    assert list(sandbox.processes()) == []
    assert sandbox.files() == []


@pytest.mark.parametrize(
    ("test", "reported"),
    [
        (LEAVES_A_PROCESS, "still ran: "),
        (LEAVES_A_FILE, "forgotten"),
        (KILLS_POSTGRES, "shared memory of a killed Postgres was left"),
    ],
    ids=["process", "file", "shared memory"],
)
def test_a_leak_fails_the_run_and_is_removed(sandbox: Sandbox, test: str, reported: str) -> None:
    run = sandbox.run(test)
    output = _output(run)

    assert run.returncode == 1, output
    assert "1 passed" in output
    assert reported in output.partition("left behind")[2]
    assert list(sandbox.processes()) == []
    assert sandbox.files() == []


def test_an_interrupted_run_leaves_nothing(sandbox: Sandbox) -> None:
    run = sandbox.run(WAITS.format(started=str(sandbox.started)), "-n", "1")
    _wait_until(sandbox.started.exists)

    os.killpg(run.pid, signal.SIGINT)  # as a terminal does

    assert "KeyboardInterrupt" in _output(run)
    assert list(sandbox.processes()) == []
    assert sandbox.files() == []


def test_a_run_whose_worker_is_killed_leaves_nothing(sandbox: Sandbox) -> None:
    run = sandbox.run(WAITS.format(started=str(sandbox.started)), "-n", "1", "--max-worker-restart", "0")
    _wait_until(sandbox.started.exists)

    (worker,) = psutil.Process(run.pid).children()
    worker.kill()

    output = _output(run)
    assert run.returncode == 1, output
    assert "crashed while running" in output
    assert list(sandbox.processes()) == []
    assert [path for path in sandbox.files() if path.is_relative_to(sandbox.places[2])] == []


def test_a_killed_run_ends_its_servers_and_the_next_run_removes_its_files(sandbox: Sandbox) -> None:
    run = sandbox.run(WAITS.format(started=str(sandbox.started)), "-n", "1")
    _wait_until(sandbox.started.exists)
    servers = [process for process in sandbox.processes() if "nats-server" in process.name()]
    assert servers

    run.kill()

    assert psutil.wait_procs(servers, timeout=END_SECONDS)[1] == []
    for process in sandbox.processes():
        process.kill()  # what the test has started itself
    run.communicate()
    assert sandbox.files()
    assert "4 passed" in _output(sandbox.run(USES_SERVERS))
    assert sandbox.files() == []
