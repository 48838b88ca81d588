"""What a migration declares: code of `compatible_from` finds all that it uses in the newer schema."""

import asyncio
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from antiphon.persistence import migrations

COLUMNS = """
select relname || '.' || attname as name, format_type(atttypid, atttypmod) as type,
       attnotnull and not atthasdef and attidentity = '' as required
  from pg_attribute
  join pg_class on pg_class.oid = attrelid
 where relnamespace = 'public'::regnamespace and relkind in ('r', 'c') and attnum > 0 and not attisdropped
   and relname not in ('alembic_version', 'schema_compatibility')
"""
FUNCTIONS = """
select oid::regprocedure::text as name, pg_get_function_result(oid) as type, false as required
  from pg_proc
 where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype
"""
UNIQUE = """
select conrelid::regclass || ' ' || pg_get_constraintdef(oid) as name, '' as type, false as required
  from pg_constraint where connamespace = 'public'::regnamespace and contype in ('p', 'u')
   and conrelid <> 'alembic_version'::regclass
"""

Schema = dict[str, tuple[str, bool]]


async def schema_of(dsn: str) -> Schema:
    """Return columns, functions and unique constraints: each with its type, and whether a row needs it."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = [row for query in (COLUMNS, FUNCTIONS, UNIQUE) for row in await connection.fetch(query)]
    finally:
        await connection.close()
    return {row["name"]: (row["type"], row["required"]) for row in rows}


def contractions(before: Schema, after: Schema) -> list[str]:
    """Return what code of the schema before misses in the one after."""
    tables = {name.partition(".")[0] for name in before}
    found = []
    for name, (kind, required) in before.items():
        if name not in after:
            found.append(f"{name} is gone")
        elif after[name][0] != kind:
            found.append(f"{name} was {kind} and is {after[name][0]}")
        elif after[name][1] and not required:
            found.append(f"{name} is required now")
    for name, (_, required) in after.items():
        if required and name not in before and name.partition(".")[0] in tables:
            found.append(f"{name} is new, and no row of before has it")
    return found


def declarations() -> dict[str, str]:
    """Return what each migration declares, by revision; one without the line is for its own code only."""
    script = ScriptDirectory.from_config(migrations._config())
    return {
        revision.revision: getattr(revision.module, "compatible_from", revision.revision)
        for revision in script.walk_revisions()
    }


@pytest.mark.parametrize(
    ("revision", "oldest"),
    [(revision, oldest) for revision, oldest in sorted(declarations().items()) if oldest != revision],
)
async def test_a_migration_only_adds_to_the_schema_that_it_is_compatible_from(
    empty_dsn: str, revision: str, oldest: str
) -> None:
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), oldest)
    before = await schema_of(empty_dsn)
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), revision)

    assert len(before) > 100
    assert contractions(before, await schema_of(empty_dsn)) == []


def test_a_declaration_never_goes_back() -> None:
    oldest = [oldest for _, oldest in sorted(declarations().items())]

    assert oldest == sorted(oldest)
    assert oldest[-1] <= migrations.head()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("alter table event_log drop column tenant cascade", "event_log.tenant is gone"),
        ("alter table event_log add region text not null", "event_log.region is new, and no row of before"),
        ("alter table turns alter language set not null", "turns.language is required now"),
        ("alter table turns alter turn type bigint", "turns.turn was integer and is bigint"),
        ("alter table sessions rename column status to state_of_it", "sessions.status is gone"),
        ("drop function ingest_batch", "ingest_batch("),
        ("alter type new_event drop attribute tenant", "new_event.tenant is gone"),
        ("alter table turns drop constraint turns_pk", "turns PRIMARY KEY"),
    ],
)
async def test_each_contraction_is_found(postgres_dsn: str, statement: str, found: str) -> None:
    before = await schema_of(postgres_dsn)
    connection: Any = await asyncpg.connect(postgres_dsn)
    await connection.execute(statement)
    await connection.close()

    assert any(each.startswith(found) for each in contractions(before, await schema_of(postgres_dsn)))


async def test_what_only_adds_is_none(postgres_dsn: str) -> None:
    before = await schema_of(postgres_dsn)
    connection: Any = await asyncpg.connect(postgres_dsn)
    await connection.execute("alter table event_log add region text; create table more (id int not null)")
    await connection.close()

    assert contractions(before, await schema_of(postgres_dsn)) == []
