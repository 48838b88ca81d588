"""A run with TEST_BACKEND=containers uses containers, and leaves none."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.leftovers import MEMORY, RUN

ROOT = Path(__file__).parents[2]
SECONDS = 600.0
USES_SERVERS = """
import pytest

async def test_containers(bus, database, nats_server, postgres_server):
    nats_server.kill()
    postgres_server.kill()
    assert not nats_server.container.running
    assert not postgres_server.container.running

async def test_they_are_started_again(bus, database):
    assert await database.pool.fetchval("select count(*) from event_log") == 0

@pytest.mark.embedded_servers
async def test_embedded(bus):
    pass

@pytest.mark.embedded_servers
def test_embedded_process(nats_server):
    assert nats_server.process.poll() is None
"""
LEAVES_A_CONTAINER = """
import os, subprocess
from tests.fixtures.container_servers import LABEL

def test_with_a_leak():
    label = f"{LABEL}={os.environ['ANTIPHON_TEST_RUN']}"
    image = os.environ["TEST_NATS_IMAGE"]
    subprocess.run(["docker", "run", "--detach", "--label", label, image], check=True, timeout=60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _run(folder: Path, test: str) -> tuple[int, str]:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_planted.py").write_text(test)
    (folder / "temporary").mkdir()
    of_this_run = (MEMORY, RUN)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_") and name not in of_this_run
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder / "tests"), str(folder / "tests")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"TEST_BACKEND": "containers", "TMPDIR": str(folder / "temporary")},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _containers() -> list[str]:
    command = ["docker", "ps", "--all", "--quiet", "--filter", "label=antiphon.test-run"]
    return subprocess.check_output(command, text=True, timeout=30).split()


def test_tests_stop_and_start_containers_and_leave_none(folder: Path) -> None:
    code, output = _run(folder, USES_SERVERS)

    assert code == 0, output
    assert "TEST_BACKEND=containers: 2 tests used " in output
    assert "; 2 marked embedded_servers used the embedded servers" in output
    assert _containers() == []


def test_a_container_that_was_left_fails_the_run_and_is_removed(folder: Path) -> None:
    code, output = _run(folder, LEAVES_A_CONTAINER)

    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "was left" in output
    assert _containers() == []


def test_an_image_that_does_not_exist_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_NATS_IMAGE", "127.0.0.1:9/none:1")

    code, output = _run(folder, "def test_it(nats_server):\n    pass\n")

    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "a container of 127.0.0.1:9/none:1 does not start" in output
    assert "TEST_NATS_IMAGE and TEST_POSTGRES_IMAGE name the images" in output
