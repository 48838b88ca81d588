"""A migration that fails leaves the schema as it was, says what to do, and goes on when it is run again."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic import command
from tests.persistence.test_migrations import catalogue, functions

from antiphon.persistence import migrations
from antiphon.persistence.migrations import current, head

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

WAITS_FOR_A_LOCK = """
select count(*) > 0 from pg_locks where relation = 'projection_checkpoints'::regclass and not granted
"""

WAITS_FOR_A_ROW = """
select count(*) > 0 from pg_stat_activity
 where datname = current_database() and application_name = 'persistence migrate' and wait_event_type = 'Lock'
"""

INSERT = "insert into projection_checkpoints (projection, partition, position) values ('sessions', 3, 7)"


async def migrate(dsn: str) -> tuple[int, str]:
    """Run the command; return its code and what it printed as an error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "antiphon.persistence",
        "migrate",
        env={**os.environ, "ANTIPHON_POSTGRES_DSN": dsn},
        stdout=PIPE,
        stderr=PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, err.decode().strip()


@pytest.fixture
async def connection(empty_dsn: str) -> asyncpg.Connection:
    """A database of revision 0006."""
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0006")
    return await asyncpg.connect(empty_dsn)


async def test_a_migration_that_fails_in_its_middle_changes_nothing_and_goes_on_later(
    connection: asyncpg.Connection, empty_dsn: str, postgres_dsn: str
) -> None:
    # 0007 has added a table and a column when it comes to this one
    await connection.execute("create table projection_skips (of_somebody_else int)")
    before = await catalogue(empty_dsn), await functions(empty_dsn)

    code, error = await migrate(empty_dsn)

    assert code == 1
    [line] = error.splitlines()
    assert "run it again to go on" in line
    assert '"projection_skips" already exists' in line
    assert (await catalogue(empty_dsn), await functions(empty_dsn)) == before
    assert await current(connection) == "0006"

    await connection.execute("drop table projection_skips")
    assert await migrate(empty_dsn) == (0, "")
    assert await current(connection) == head()
    await connection.close()
    assert await functions(empty_dsn) == await functions(postgres_dsn)


async def test_a_migration_that_is_killed_has_said_which_code_can_run_with_what_it_did(
    connection: asyncpg.Connection, empty_dsn: str, eventually: "Eventually"
) -> None:
    """Else code of before would start with a schema that is not for it, or be refused one that is."""
    await connection.execute("update schema_compatibility set compatible_from = 'of before'")
    reader = await asyncpg.connect(empty_dsn)
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("select * from schema_compatibility for update")  # it stops where it says so
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "antiphon.persistence",
        "migrate",
        env={**os.environ, "ANTIPHON_POSTGRES_DSN": empty_dsn},
    )

    async def waits() -> bool:
        return bool(await connection.fetchval(WAITS_FOR_A_ROW))

    await eventually(waits, seconds=60)
    process.kill()
    await process.wait()
    await reading.rollback()
    await reader.close()

    assert await current(connection) == "0006"
    assert await connection.fetchval("select compatible_from from schema_compatibility") == "of before"
    assert await migrate(empty_dsn) == (0, "")
    assert await connection.fetchval("select compatible_from from schema_compatibility") == "0005"
    await connection.close()


async def test_writers_do_not_wait_for_a_migration_that_gets_no_lock(
    connection: asyncpg.Connection, empty_dsn: str, eventually: "Eventually"
) -> None:
    reader, writer = await asyncpg.connect(empty_dsn), await asyncpg.connect(empty_dsn)
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("select * from projection_checkpoints")  # as a backup does, for as long as it takes
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))

    async def waits() -> bool:
        return bool(await connection.fetchval(WAITS_FOR_A_LOCK))

    await eventually(waits)
    await writer.execute("set lock_timeout = '20s'")  # without steps, the migration would hold it up for 30 s
    await writer.execute(INSERT)
    assert not migrating.done()

    await reading.rollback()
    assert await asyncio.wait_for(migrating, 120) == head()
    for each in (reader, writer, connection):
        await each.close()
