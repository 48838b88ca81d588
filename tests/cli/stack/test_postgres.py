import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from antiphon.cli.errors import StackError
from antiphon.cli.stack.postgres import Postgres
from antiphon.cli.stack.postgres_files import processes_in


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres")
    yield server
    server.stop()  # a kill would leave its shared memory


async def _execute(server: Postgres, statement: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_committed_data_survives_sigkill(server: Postgres) -> None:
    server.start()
    await _execute(server, "create table kept as select 7 as number")

    server.kill()
    server.start()

    assert await _execute(server, "select number from kept") == 7


async def test_version_is_18_and_commits_are_durable(server: Postgres) -> None:
    server.start()

    assert str(await _execute(server, "show server_version")).startswith("18.")
    assert await _execute(server, "show fsync") == "on"
    assert await _execute(server, "show synchronous_commit") == "on"


async def test_password_is_required_and_private(server: Postgres) -> None:
    server.start()

    mode = stat.S_IMODE((server.directory / "password").stat().st_mode)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn.replace(":" + server.dsn.split(":")[2].split("@")[0], ":wrong"))
    assert mode == 0o600


def test_only_loopback_is_bound(server: Postgres) -> None:
    server.start()

    assert server.process is not None
    sockets = psutil.Process(server.process.pid).net_connections(kind="all")
    assert {s.laddr.ip for s in sockets if s.family == socket.AF_INET} == {"127.0.0.1"}
    assert not [s for s in sockets if s.family == socket.AF_UNIX and s.laddr]


def test_stale_lock_file_with_a_reused_process_id_is_removed(server: Postgres) -> None:
    server.start()
    lock = (server.data / "postmaster.pid").read_text().splitlines()
    server.kill()
    (server.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lock[1:]]) + "\n")

    server.start()

    assert server.ready()


def test_folder_of_a_running_server_is_refused(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.cli.stack.postgres_files.EXIT_SECONDS", 0.2)
    server.start()

    with pytest.raises(StackError, match="already runs"):
        Postgres(server.directory).start()
    assert server.ready()


def test_interrupted_initialisation_is_repeated(server: Postgres) -> None:
    draft = server.directory / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18")

    server.start()

    assert server.ready()


def test_stop_leaves_no_process(server: Postgres) -> None:
    server.start()
    assert processes_in(server.data)

    server.stop()

    assert server.process is not None
    assert server.process.returncode == 0
    assert not processes_in(server.data)


def test_folder_below_a_private_home_works(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    server = Postgres(private / "checkout" / "postgres")

    server.start()
    server.stop()

    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_server_does_not_run_as_root(server: Postgres) -> None:
    server.start()

    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().real != 0


def test_lost_password_raises_and_is_not_replaced(server: Postgres) -> None:
    server.start()
    server.stop()
    (server.directory / "password").unlink()

    with pytest.raises(StackError, match="password is missing"):
        server.start()


def test_server_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys; from antiphon.cli.stack.postgres import Postgres\n"
        "Postgres(pathlib.Path(sys.argv[1])).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    starter = subprocess.run([sys.executable, "-c", program, tmp_path / "postgres"], timeout=60, check=False)
    assert starter.returncode == -signal.SIGKILL

    # the next start waits for the folder
    server = Postgres(tmp_path / "postgres")
    server.start()
    server.stop()
