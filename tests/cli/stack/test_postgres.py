import os
import signal
import socket
import stat
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


async def test_what_was_committed_is_there_after_kill_9(server: Postgres) -> None:
    server.start()
    await _execute(server, "create table kept as select 7 as number")

    server.kill()
    server.start()

    assert await _execute(server, "select number from kept") == 7


async def test_it_is_postgres_18_with_durable_commits(server: Postgres) -> None:
    server.start()

    assert str(await _execute(server, "show server_version")).startswith("18.")
    assert await _execute(server, "show fsync") == "on"
    assert await _execute(server, "show synchronous_commit") == "on"


async def test_the_password_is_needed_and_private(server: Postgres) -> None:
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


def test_a_lock_file_whose_process_id_lives_on_as_another_program_is_no_trouble(server: Postgres) -> None:
    server.start()
    lock = (server.data / "postmaster.pid").read_text().splitlines()
    server.kill()
    (server.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lock[1:]]) + "\n")

    server.start()

    assert server.ready()


def test_a_folder_with_a_running_server_is_left_alone(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.cli.stack.postgres_files.LEAVING_SECONDS", 0.2)
    server.start()

    with pytest.raises(StackError, match="already runs"):
        Postgres(server.directory).start()
    assert server.ready()


def test_an_initialisation_that_was_cut_short_is_done_again(server: Postgres) -> None:
    draft = server.directory / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18")

    server.start()

    assert server.ready()


def test_nothing_works_in_the_folder_after_a_stop(server: Postgres) -> None:
    server.start()
    assert processes_in(server.data)

    server.stop()

    assert server.process is not None
    assert server.process.returncode == 0
    assert not processes_in(server.data)


def test_a_state_folder_below_a_private_home_works(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    server = Postgres(private / "checkout" / "postgres")

    server.start()
    server.stop()

    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_it_does_not_run_as_root(server: Postgres) -> None:
    server.start()

    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().real != 0


def test_a_lost_password_is_said_and_not_replaced(server: Postgres) -> None:
    server.start()
    server.stop()
    (server.directory / "password").unlink()

    with pytest.raises(StackError, match="password is gone"):
        server.start()


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = os.fork()
    if starter == 0:
        Postgres(tmp_path / "postgres").start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(starter, 0)

    # the folder is free again within the patience of the next start
    server = Postgres(tmp_path / "postgres")
    server.start()
    server.stop()
