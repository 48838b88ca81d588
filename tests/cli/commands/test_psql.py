"""`antiphon psql` is psql, on the database of the stack that is up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.commands.psql import psql_on
from antiphon.cli.home import claim, take_lock
from antiphon.cli.stack.postgres import Postgres
from antiphon.cli.supervisor.state import State, addresses_of, write_state

RUN = (sys.executable, "-c", "from antiphon.cli.main import app; app()", "psql")


@pytest.fixture
def home(tmp_path: Path, postgres_server: Postgres) -> Iterator[Path]:
    """The folder of a stack that is up, as far as its Postgres."""
    settings = isolated_settings(tmp_path / "home")
    claim(settings.home)
    lock = take_lock(settings.home)
    assert lock is not None
    addresses = msgspec.structs.replace(addresses_of(settings), postgres_dsn=postgres_server.dsn)
    write_state(settings.home, State(supervisor_pid=os.getpid(), addresses=addresses))
    yield settings.home
    lock.close()


def run(home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "ANTIPHON_HOME": str(home),
        "PGHOST": "nowhere.invalid",
        "PGSSLMODE": "require",
    }
    return subprocess.run(
        [*RUN, *arguments],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_its_arguments_and_its_input_are_those_of_psql(home: Path) -> None:
    asked = run(home, "-XqAt", "-v", "n=2", "-c", "select 'ä', current_database()")
    read = run(home, "-XqAt", "-v", "n=20", "-f", "-", given="select :n + 1;")

    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "ä|antiphon\n", "")
    assert (read.returncode, read.stdout, read.stderr) == (0, "21\n", "")


def test_its_exit_code_and_its_errors_are_those_of_psql(home: Path) -> None:
    failed = run(home, "-X", "-v", "ON_ERROR_STOP=1", given="select nope;")
    unknown = run(home, "--nope")

    assert failed.returncode == 3
    assert 'column "nope" does not exist' in failed.stderr
    assert unknown.returncode == 1
    assert "unrecognized option" in unknown.stderr


def test_without_a_stack_it_says_what_to_do(tmp_path: Path) -> None:
    found = run(tmp_path / "none", "-c", "select 1")

    assert found.returncode == 1
    assert "no stack is up in" in found.stderr
    assert "ANTIPHON_HOME" in found.stderr
    assert not (tmp_path / "none").exists()


def test_the_password_is_not_an_argument() -> None:
    psql = psql_on("postgresql://me:s%3Acret@127.0.0.1:5433/antiphon", ["-c", "select 1"])

    assert psql.arguments[1:] == ["-c", "select 1"]
    assert psql.environment["PGPASSWORD"] == "s:cret"
