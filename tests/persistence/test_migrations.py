"""The migrations create the schema that the metadata defines."""

import asyncio
import hashlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from antiphon.contracts.session import Session
from antiphon.contracts.views import TABLES, session_json
from antiphon.persistence import migrations
from antiphon.persistence.migrations import SchemaMismatch, current, head
from antiphon.persistence.projection import views
from antiphon.persistence.schema import metadata

# The schema of a database: columns with types, collations and defaults; constraints; indexes; options.
CATALOGUE = """
select 'column', relname || '.' || attname, format_type(atttypid, atttypmod)
       || case when attnotnull then ' not null' else '' end
       || coalesce(' collate ' || nullif(collname, 'default'), '')
       || coalesce(' default ' || pg_get_expr(adbin, adrelid), '') || ' ' || attidentity::text
  from pg_attribute
  join pg_class on pg_class.oid = attrelid
  left join pg_attrdef on adrelid = attrelid and adnum = attnum
  left join pg_collation on pg_collation.oid = attcollation
 where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
union all
select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
union all
select 'options', relname, array_to_string(reloptions, ',')
  from pg_class where relnamespace = 'public'::regnamespace and reloptions is not null
"""


async def catalogue(dsn: str) -> set[tuple[str, str, str]]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = {(str(kind), str(name), str(text)) for kind, name, text in await connection.fetch(CATALOGUE)}
    finally:
        await connection.close()
    return {row for row in rows if "alembic_version" not in row[1]}


async def functions(dsn: str) -> set[str]:
    """Return our functions with their arguments."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "select oid::regprocedure::text as name from pg_proc where pronamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    return {row["name"] for row in rows}


async def test_the_migrations_create_what_the_metadata_defines(empty_dsn: str, postgres_dsn: str) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_dsn))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(views.create_all)
    await engine.dispose()

    assert await catalogue(empty_dsn) == await catalogue(postgres_dsn)


async def test_a_difference_is_detected(empty_dsn: str, postgres_dsn: str) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_dsn))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(views.create_all)
        await connection.execute(text("alter table turns alter agent_id drop not null"))
    await engine.dispose()

    assert await catalogue(empty_dsn) != await catalogue(postgres_dsn)


async def test_concurrent_migrations_run_once(empty_dsn: str) -> None:
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": empty_dsn}
    migrate = (sys.executable, "-m", "antiphon.persistence", "migrate")
    processes = [
        await asyncio.create_subprocess_exec(*migrate, env=environment, stdout=PIPE) for _ in range(2)
    ]
    output = [(await process.communicate())[0].decode() for process in processes]

    assert output == [f"The schema is at revision {head()}.\n"] * 2
    connection = await asyncpg.connect(empty_dsn)
    assert await current(connection) == head()
    await connection.close()


async def test_a_database_of_the_first_revision_is_upgraded(empty_dsn: str, postgres_dsn: str) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0001")
    before = await functions(empty_dsn)
    migrations.migrate(empty_dsn)

    assert before != await functions(empty_dsn) == await functions(postgres_dsn)
    assert await catalogue(empty_dsn) == await catalogue(postgres_dsn)


async def test_the_last_event_of_each_partition_is_known_after_an_upgrade(empty_dsn: str) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0002")
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(
        """
        insert into checkpoints (name, position) values ('ingest:0', 7), ('ingest:1', 9), ('ingest:2', 11);
        insert into event_log values ('s', 1, 0, 7, 't', 'the event', 'x', 1, now(), '{}');
        insert into dead_letters (partition, position, subject, payload, error) values (1, 9, '', 'raw', '');
        """
    )
    migrations.migrate(empty_dsn)

    rows = await connection.fetch("select last_event_id, read_through from checkpoints order by name")
    assert [tuple(row) for row in rows] == [
        ("the event", 7),
        ("sha256:" + hashlib.sha256(b"raw").hexdigest(), 9),
        (None, 11),
    ]
    await connection.close()


STATE: dict[str, Any] = {
    "session_id": "ses_1",
    "tenant": "default",
    "status": "active",
    "sequence": 9,
    "flow_id": "nul \0",
    "flow_revision": 3,
    "user_id": "ada",
    "room": "nul \0 \\u0000",
    "metadata": {"order": 1},
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-02T03:04:05.678901Z",
    "agent_state": "speaking",
    "turns": 2,
    "participants": {"PA_1": {"identity": "caller", "kind": "sip", "joined_at": "2026-01-02T03:04:05Z"}},
    "usage": [],
}
UNREQUESTED = {**STATE, "session_id": "ses_2", "flow_id": "", "flow_revision": 0, "user_id": "", "room": ""}
ROOM = {**STATE, "session_id": "ses_3", "room": "r" * 300, "turns": 0}


async def test_the_views_keep_their_rows(empty_dsn: str) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0002")
    connection = await asyncpg.connect(empty_dsn)
    for state in (STATE, UNREQUESTED, ROOM):
        await connection.execute(
            """
            insert into sessions (session_id, tenant, status, flow_id, flow_revision, user_id, created_at,
                                  updated_at, turns, sequence, state)
            values ($1, 'default', 'active', $2, $3, $4, $5, $5, $6, 9, $7)
            """,
            state["session_id"],
            state["flow_id"].replace("\0", "?"),
            state["flow_revision"],
            state["user_id"],
            datetime.fromisoformat(state["updated_at"]),
            state["turns"],
            json.dumps(state),
        )
        await connection.execute(
            "insert into turns values ($1, 2, 'default', 'host', false, true, now(), 8, '[]', '{}', 'hello')",
            state["session_id"],
        )
    await connection.close()
    migrations.migrate(empty_dsn)

    connection = await asyncpg.connect(empty_dsn)
    rows = await connection.fetch("select * from sessions order by session_id")
    turns = await connection.fetch("select * from turns order by session_id")
    await connection.close()
    first, unrequested, named = (msgspec.json.decode(session_json(row), type=Session) for row in rows)
    kept = msgspec.convert({**STATE, "flow_id": "nul \ufffd", "room": "nul \ufffd \\u0000"}, Session)
    assert first == replace(kept, turns_by_epoch={"": 2})
    nobody = {"flow_id": None, "flow_revision": None, "user_id": None, "room": None}
    assert unrequested == replace(first, session_id="ses_2", **nobody)
    assert (named.room, named.turns_by_epoch) == ("r" * 300, {})
    assert [row["room"] for row in rows] == ["nul \ufffd \\u0000", None, "r" * 256]
    assert [row["flow_id"] for row in rows] == ["nul ?", None, "nul ?"]
    assert [(row["epoch"], row["turn"], row["state"], row["first_sequence"]) for row in turns] == [
        ("", 2, "saved", 8)
    ] * 3


async def test_a_database_without_schema_has_no_revision(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    assert await current(connection) is None
    await connection.close()


@pytest.mark.parametrize("view", TABLES)
def test_a_view_has_the_columns_of_the_contract(view: str) -> None:
    table = views.tables[view]
    declared = TABLES[view]

    assert {column.name for column in table.columns} == set(declared.__struct_fields__)
    required = set(
        declared.__struct_fields__[: len(declared.__struct_fields__) - len(declared.__struct_defaults__)]
    )
    assert {column.name for column in table.columns if not column.nullable} == required


async def declare(dsn: str, revision: str, compatible_from: str) -> None:
    """Change a database as the migration of a newer version would."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("update alembic_version set version_num = $1", revision)
    await connection.execute("update schema_compatibility set compatible_from = $1", compatible_from)
    await connection.close()


async def test_the_schema_declares_the_oldest_code_that_can_run_with_it(postgres_dsn: str) -> None:
    declared = ScriptDirectory.from_config(migrations._config()).get_revision(head()).module.compatible_from
    connection = await asyncpg.connect(postgres_dsn)

    assert await connection.fetchval("select compatible_from from schema_compatibility") == declared
    assert await migrations.check(connection) == head()
    await connection.close()


async def test_a_newer_schema_that_declares_itself_compatible_is_accepted(postgres_dsn: str) -> None:
    await declare(postgres_dsn, "9000", compatible_from=head())
    connection = await asyncpg.connect(postgres_dsn)

    assert await migrations.check(connection) == "9000"
    assert migrations.migrate(postgres_dsn) == "9000"  # and stays as it is
    await connection.close()


async def test_a_newer_schema_that_is_not_compatible_is_refused(postgres_dsn: str) -> None:
    await declare(postgres_dsn, "9000", compatible_from="8999")
    connection = await asyncpg.connect(postgres_dsn)

    with pytest.raises(SchemaMismatch, match="revision 9000, for code of revision 8999 and later"):
        await migrations.check(connection)
    with pytest.raises(SchemaMismatch, match="run a newer version"):
        migrations.migrate(postgres_dsn)
    await connection.close()


async def test_an_older_schema_must_be_migrated(empty_dsn: str) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0002")
    connection = await asyncpg.connect(empty_dsn)

    with pytest.raises(SchemaMismatch, match=r"is at schema revision 0002, this version needs .* migrate"):
        await migrations.check(connection)
    await connection.close()


async def test_a_migration_that_postgres_refuses_is_explained_in_a_line(empty_dsn: str) -> None:
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": f"{empty_dsn}?default_transaction_read_only=on"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.persistence", "migrate", env=environment, stdout=PIPE, stderr=PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 1
    [line] = err.decode().strip().splitlines()
    assert "run it again" in line
    assert "read-only transaction" in line
