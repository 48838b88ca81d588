"""Revision 0006 fills its columns while the table is read and written, and can be interrupted anywhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic import command
from sqlalchemy.exc import DBAPIError
from tests.persistence.test_migrations import catalogue

from antiphon.persistence import migrations
from antiphon.persistence.errors import POSTGRES_ERRORS

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

ROWS = 1100  # more than two batches
GATE = 77
SECONDS = 60.0

INSERT = """
insert into sessions (session_id, tenant, status, created_at, ended_at, metadata, details, reason, turns,
                      skipped, updated_at, sequence)
select 'ses_' || number, 'default', 'ended', now(), now(), $2::json, $3::json, 'caller_left', 0, 0, now(), 9
  from generate_series(1, $1::integer) as number
"""
# The change of one row waits until the test lets it go on.
GATED = f"""
create function gate() returns trigger language plpgsql as $$
begin perform pg_advisory_xact_lock({GATE}); return new; end $$;
create trigger gate before update on sessions for each row when (old.session_id = 'ses_900')
    execute function gate()
"""
UNGATED = "drop trigger gate on sessions; drop function gate()"
FILLED = "select count(*) from sessions where conversation_id = 'conv' and fault = 'none'"
MIGRATOR = """
select pid from pg_stat_activity where application_name like '%migrate%' and datname = current_database()
"""


@pytest.fixture
async def connection(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of revision 0005 with sessions."""
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0005")
    connection = await asyncpg.connect(empty_dsn)
    details = {"conversation_id": "conv", "fault": "none"}
    metadata = {"plan": "gold", "n": 1, "nul": "a\0b", "deep": {}, "not=this": 1}
    await connection.execute(INSERT, ROWS, json.dumps(metadata), json.dumps(details))
    yield connection
    await connection.close()


async def _columns_exist(connection: asyncpg.Connection) -> bool:
    return bool(
        await connection.fetchval(
            "select count(*) from pg_attribute where attrelid = 'sessions'::regclass and attname = 'fault'"
        )
    )


async def test_sessions_are_read_and_written_during_the_migration(
    connection: asyncpg.Connection, empty_dsn: str, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await connection.execute(GATED)
    await connection.execute(f"select pg_advisory_lock({GATE})")
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))

    await eventually(lambda: _columns_exist(connection))
    async with asyncio.timeout(SECONDS):
        assert await connection.fetchval("select count(*) from sessions") == ROWS
        await connection.execute("update sessions set turns = 7 where session_id = 'ses_1'")
        await eventually(lambda: connection.fetchval(FILLED))  # what is committed stays
    await connection.execute(f"select pg_advisory_unlock({GATE})")
    await migrating

    assert await connection.fetchval(FILLED) == ROWS
    assert await connection.fetchval("select count(*) from sessions where turns = 7") == 1
    terms = await connection.fetchval("select metadata_terms from sessions where session_id = 'ses_900'")
    assert terms == ["plan=gold", "n=1", "nul=a\ufffdb"]
    await connection.execute(UNGATED)
    assert await catalogue(empty_dsn) == await catalogue(postgres_dsn)


async def test_a_migration_that_was_killed_goes_on(
    connection: asyncpg.Connection, empty_dsn: str, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await connection.execute(GATED)
    await connection.execute(f"select pg_advisory_lock({GATE})")
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))
    await eventually(lambda: _columns_exist(connection))
    await eventually(lambda: connection.fetchval(FILLED))
    await connection.execute(f"select pg_terminate_backend(pid) from ({MIGRATOR}) as migrator")
    with pytest.raises((DBAPIError, asyncpg.InterfaceError, *POSTGRES_ERRORS)):
        await migrating
    await connection.execute(f"select pg_advisory_unlock({GATE})")
    await connection.execute(UNGATED)
    # Of a run that was killed while it made an index.
    await connection.execute(
        "create index sessions_metadata_terms_idx on sessions using gin (metadata_terms)"
    )
    await connection.execute(
        "update pg_index set indisvalid = false where indexrelid = 'sessions_metadata_terms_idx'::regclass"
    )

    assert migrations.migrate(empty_dsn) == migrations.head()

    assert await connection.fetchval(FILLED) == ROWS
    assert await connection.fetchval("select count(*) from pg_index where not indisvalid") == 0
    assert await catalogue(empty_dsn) == await catalogue(postgres_dsn)


async def test_a_long_transaction_delays_the_migration_and_no_reader(
    connection: asyncpg.Connection, empty_dsn: str, eventually: "Eventually"
) -> None:
    waiting = (
        "select count(*) from pg_locks where relation = 'sessions'::regclass and not granted "
        "and mode = 'AccessExclusiveLock'"
    )
    reader = await asyncpg.connect(empty_dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("select from sessions limit 1")
    migrating = asyncio.create_task(asyncio.to_thread(migrations.migrate, empty_dsn))

    await eventually(lambda: connection.fetchval(waiting))
    async with asyncio.timeout(SECONDS):
        assert await connection.fetchval("select count(*) from sessions") == ROWS  # behind that lock
    assert not migrating.done()
    await transaction.rollback()
    await reader.close()

    assert await migrating == migrations.head()
