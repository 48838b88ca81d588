"""The pool: connecting, transactions, outages, close."""

import asyncio
import time

import asyncpg
import pytest
from tests.fixtures.template_database import clone_template

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
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
