"""Revision 0008 adds the chain while the log is written, and can be interrupted anywhere."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic import command
from sqlalchemy.exc import DBAPIError
from tests.persistence.test_migrations import catalogue, functions

from antiphon.persistence import migrations
from antiphon.persistence.errors import POSTGRES_ERRORS

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

INSERT = """
insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                       occurred_at, envelope)
select 'ses', number, 0, number, 'default', number::text, 'turn.saved', 1, now(), '{}'
  from generate_series($1::integer, $2) as number
"""
INDEX = "event_log_tenant_partition_position_idx"
MIGRATOR = """
select pid from pg_stat_activity where application_name like '%migrate%' and datname = current_database()
"""
KILLED: tuple[type[Exception], ...] = (DBAPIError, asyncpg.InterfaceError, *POSTGRES_ERRORS)
INVALID = f"select count(*) from pg_index where indexrelid = to_regclass('{INDEX}') and not indisvalid"


@pytest.fixture
async def connection(empty_dsn: str) -> asyncpg.Connection:
    """A database of the revision before, with events."""
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0007")
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(INSERT, 1, 1000)
    return connection


async def test_the_log_is_written_while_its_index_is_made_and_a_killed_migration_goes_on(
    connection: asyncpg.Connection, empty_dsn: str, postgres_dsn: str, eventually: "Eventually"
) -> None:
    writer = await asyncpg.connect(empty_dsn)
    transaction = writer.transaction()
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))
    await eventually(lambda: _has_chain(connection))
    # An older transaction, for which the index waits: the log is written meanwhile.
    await transaction.start()
    await writer.execute(INSERT, 1001, 1100)
    await connection.execute(INSERT, 1101, 1200)
    if not migrating.done():
        await connection.execute(f"select pg_terminate_backend(pid) from ({MIGRATOR}) as migrator")
    with suppress(*KILLED):
        await migrating
    await transaction.rollback()
    await writer.close()
    # Of a run that was killed while it made the index.
    await connection.execute(f"create index if not exists {INDEX} on event_log (tenant, partition, position)")
    await connection.execute(f"update pg_index set indisvalid = false where indexrelid = '{INDEX}'::regclass")
    await connection.execute("update alembic_version set version_num = '0007'")
    assert await connection.fetchval(INVALID) == 1

    assert migrations.migrate(empty_dsn) == migrations.head()

    assert await connection.fetchval(INVALID) == 0
    assert await connection.fetchval("select count(*) from event_log where hash is null") == 1100
    await connection.close()
    assert await catalogue(empty_dsn) == await catalogue(postgres_dsn)
    assert await functions(empty_dsn) == await functions(postgres_dsn)


async def _has_chain(connection: asyncpg.Connection) -> bool:
    """Return whether the columns and functions are there, which a migration makes before its index."""
    return bool(
        await connection.fetchval("select to_regprocedure('chain_start(smallint, bigint)') is not null")
    )


async def test_a_long_reader_delays_the_migration_and_no_other_reader(
    connection: asyncpg.Connection, empty_dsn: str, eventually: "Eventually"
) -> None:
    waiting = """
        select count(*) from pg_locks where relation = 'event_log'::regclass and not granted
           and mode = 'AccessExclusiveLock'
    """
    reader = await asyncpg.connect(empty_dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("select from event_log limit 1")
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))

    await eventually(lambda: connection.fetchval(waiting))
    async with asyncio.timeout(60):
        assert await connection.fetchval("select count(*) from event_log") == 1000
    assert not migrating.done()
    await transaction.rollback()
    await reader.close()

    assert await migrating == migrations.head()
    await connection.close()
