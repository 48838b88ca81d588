"""The pool: connecting, transactions, outages, close."""

import asyncio
import socket
import time
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from tests.fixtures.template_database import clone_template

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable, translate_errors
from antiphon.chassis.pool import PoolExhausted
from antiphon.chassis.postgres import server_settings
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.postgres import Postgres


async def test_a_transaction_commits_at_its_end(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("create table cups (n int)")
        await connection.execute("insert into cups values (1)")

    assert await database.pool.fetchval("select n from cups") == 1


async def test_a_failed_transaction_is_rolled_back(database: Database) -> None:
    await database.pool.execute("create table cups (n int)")

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into cups values (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await database.pool.fetchval("select count(*) from cups") == 0


async def test_connecting_without_a_server_raises_after_the_deadline() -> None:
    started = time.monotonic()

    with pytest.raises(DatabaseUnavailable, match=r"did not answer within 0\.5 s"):
        await Database.connect(f"postgresql://x@127.0.0.1:{free_port()}/x", connect_timeout_seconds=0.5)

    assert time.monotonic() - started < 3


@pytest.mark.parametrize("wrong", ["password", "database", "sslmode"])
async def test_a_dsn_that_postgres_refuses_is_no_outage(wrong: str, postgres_server: Postgres) -> None:
    password = urlsplit(postgres_server.dsn).password or "?"
    dsn = {
        "password": postgres_server.dsn.replace(password, "S3CRET"),
        "database": postgres_server.dsn_of("nowhere"),
        "sslmode": f"{postgres_server.dsn}?sslmode=wrong",
    }[wrong]

    with pytest.raises(DatabaseRefused, match="check ANTIPHON_POSTGRES_DSN") as refused:
        await Database.connect(dsn)

    assert wrong in str(refused.value)
    assert password not in str(refused.value)
    assert "S3CRET" not in str(refused.value)


def test_the_shortest_statement_timeout_is_still_a_limit() -> None:
    assert server_settings("postgresql://h", "test", 0.0004)["statement_timeout"] == "1"


async def test_connect_waits_for_a_starting_server(postgres_server: Postgres, postgres_dsn: str) -> None:
    postgres_server.stop()
    connecting = asyncio.create_task(Database.connect(postgres_dsn))
    await asyncio.sleep(0.3)
    postgres_server.start()

    database = await connecting

    await database.ready()
    await database.close()


async def test_a_killed_server_is_unavailable_and_the_pool_recovers(
    postgres_server: Postgres, database: Database
) -> None:
    async def use() -> None:
        async with database.transaction() as connection:
            await connection.execute("select 1")
            postgres_server.kill()
            while True:  # the backend outlives its postmaster for a moment
                await connection.execute("select pg_sleep(0.01)")

    await database.ready()
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(use(), 10)
    with pytest.raises(DatabaseUnavailable):
        await database.ready()

    postgres_server.start()
    await database.ready(timeout_seconds=10)


async def test_a_database_that_is_dropped_is_unavailable_until_it_is_there_again(
    postgres_server: Postgres, template_database: str
) -> None:
    """A new server is set up in the place of one that was lost: readers get 503, not 500."""
    name = f"dropped_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_server.dsn_of("postgres"))
    await admin.execute(f'create database "{name}"')
    database = await Database.connect(postgres_server.dsn_of(name), max_size=2)
    await admin.execute(f'drop database "{name}" with (force)')
    for _ in range(3):  # the first error is that of the connection in the pool
        with pytest.raises(DatabaseUnavailable):
            await database.ready()
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction():
                pass

    await admin.execute(f'create database "{name}"')
    await database.ready()
    await database.close()
    await admin.execute(f'drop database "{name}"')
    await admin.close()


async def test_errors_of_the_caller_are_not_translated(database: Database) -> None:
    async def too_many_arguments() -> None:
        async with database.transaction() as connection:
            await connection.execute("select $1::int", 1, 2)

    with pytest.raises(asyncpg.DataError), translate_errors():
        await database.pool.fetch("select $1::int", "one")
    with pytest.raises(asyncpg.InterfaceError):
        await too_many_arguments()
    with pytest.raises(asyncpg.UndefinedTableError), translate_errors():
        await database.pool.fetch("select * from nowhere")


async def test_a_clone_has_its_template_tables(postgres_server: Postgres, template_database: str) -> None:
    admin = postgres_server.dsn_of("postgres")
    await clone_template(admin, template_database, "cloned")

    database = await Database.connect(postgres_server.dsn_of("cloned"), max_size=1)

    assert await database.pool.fetchval("select count(*) from event_log") == 0
    await database.close()
    connection = await asyncpg.connect(admin)
    await connection.execute("drop database cloned")
    await connection.close()


async def test_close_is_bounded_while_a_connection_is_in_use(database: Database, postgres_dsn: str) -> None:
    busy = await Database.connect(postgres_dsn, max_size=1)
    await busy.pool.acquire()
    started = time.monotonic()

    await busy.close()

    assert time.monotonic() - started < 8
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await busy.pool.acquire()


async def test_an_exhausted_pool_is_unready_and_recovers(postgres_dsn: str) -> None:
    database = await Database.connect(postgres_dsn, max_size=2, acquire_timeout_seconds=0.2)
    async with database.pool.acquire(), database.pool.acquire():
        with pytest.raises(PoolExhausted, match=r"all 2 connections were in use for 0\.2 s"):
            await database.pool.fetchval("select 1")
        with pytest.raises(DatabaseUnavailable, match="all 2 connections"):
            await database.ready(timeout_seconds=0.2)

    await database.ready()
    assert await database.pool.fetchval("select 1") == 1
    await database.close()


SETTINGS = (
    "application_name",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "tcp_keepalives_idle",
    "tcp_user_timeout",
)


async def settings_of(database: Database) -> dict[str, str]:
    return {name: await database.pool.fetchval(f"show {name}") for name in SETTINGS}


async def test_every_connection_has_a_name_and_time_limits(postgres_dsn: str) -> None:
    database = await Database.connect(postgres_dsn, name="a service", statement_timeout_seconds=12)

    assert await settings_of(database) == {
        "application_name": "a service",
        "statement_timeout": "12s",
        "idle_in_transaction_session_timeout": "12s",
        "tcp_keepalives_idle": "2",
        "tcp_user_timeout": "10000",
    }
    async with database.pool.acquire() as connection:
        sock = connection._con._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    await database.close()


async def test_what_the_dsn_sets_wins(postgres_dsn: str) -> None:
    database = await Database.connect(
        f"{postgres_dsn}?application_name=mine&statement_timeout=70000", name="a service"
    )

    found = await settings_of(database)
    assert (found["application_name"], found["statement_timeout"]) == ("mine", "70s")
    assert found["tcp_user_timeout"] == "10000"
    await database.close()


async def test_a_long_statement_is_cancelled_by_the_server(postgres_dsn: str) -> None:
    database = await Database.connect(postgres_dsn, statement_timeout_seconds=0.2)

    with pytest.raises(DatabaseUnavailable, match="statement timeout"), translate_errors():
        await database.pool.execute("select pg_sleep(60)")

    await database.ready()
    await database.close()


async def test_connections_to_a_demoted_primary_are_opened_again(
    postgres_server: Postgres, database: Database
) -> None:
    """A server that no longer accepts writes refuses them on each connection that is open."""
    await database.pool.execute("create table cups (n int)")
    async with database.pool.acquire() as one, database.pool.acquire() as other:
        demoted = {connection.get_server_pid() for connection in (one, other)}
        name = await one.fetchval("select current_database()")
    admin = await asyncpg.connect(postgres_server.dsn_of("postgres"))
    try:
        await admin.execute(f'alter database "{name}" set default_transaction_read_only = off')  # of new ones
        await admin.execute("alter system set default_transaction_read_only = on")  # of those that are open
        await admin.execute("select pg_reload_conf()")
        await wait_until_read_only(database)

        with pytest.raises(DatabaseUnavailable, match="read-only"), translate_errors():
            await database.pool.execute("insert into cups values (1)")
        async with database.pool.acquire() as one, database.pool.acquire() as other:
            assert demoted.isdisjoint({connection.get_server_pid() for connection in (one, other)})
            await one.execute("insert into cups values (1)")
    finally:
        await admin.execute("set default_transaction_read_only = off")
        await admin.execute("alter system reset default_transaction_read_only")
        await admin.execute("select pg_reload_conf()")
        await admin.close()


async def wait_until_read_only(database: Database) -> None:
    async with asyncio.timeout(30), database.pool.acquire() as one, database.pool.acquire() as other:
        for connection in (one, other):
            while await connection.fetchval("show default_transaction_read_only") != "on":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
