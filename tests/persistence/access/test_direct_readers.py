"""A direct reader sees the rows of its tenant in the views, and nothing else, whatever it tries."""

from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.database import Database
from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.views import TABLES
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.rights.declaration import COUNTED

if TYPE_CHECKING:
    from tests.persistence.access.conftest import Access
    from tests.persistence.conftest import NewSession

DENIED = asyncpg.InsufficientPrivilegeError
TOOLS = (
    ToolStarted(call_id="c", name="book_table", arguments="{}"),
    ToolCompleted(call_id="c", name="book_table", status="done"),
    ParticipantConnected(sid="PA_1", identity="caller", kind="caller"),
    UsageUpdated(models=[ModelUsage(kind="llm", provider="p", model="m", input_tokens=3)]),
)
SECRET = "globex wants a table for nine"


@pytest.fixture
def filled(database: Database) -> FilledLog:
    """The log, to put events into."""
    return FilledLog(database)


@pytest.fixture
async def readers(
    access: "Access",
    filled: FilledLog,
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
) -> "Access":
    """Calls of two tenants in all views, and a reader of each."""
    for name, tenant, text in (("a", "acme", "a table for two"), ("b", "globex", SECRET)):
        session = new_session(name, tenant)
        call = session.whole_call()
        await filled.put([*call[:-1], session.turn(4, text), *map(session.seal, TOOLS), call[-1]])
    for projection in PROJECTIONS:
        await build(postgres_dsn, database, projection)
    await access.make("acme", tenant="acme")
    await access.make("globex", tenant="globex")
    return access


async def test_each_view_has_the_rows_of_its_tenant_only(readers: "Access", database: Database) -> None:
    for tenant in ("acme", "globex"):
        connection = await readers.connect(tenant)
        for table in TABLES:
            tenants = f"select array_agg(distinct tenant order by tenant) from {table}"
            assert await database.pool.fetchval(tenants) == ["acme", "globex"], f"no rows in {table}"
            assert await connection.fetchval(tenants) == [tenant]
        await connection.close()


OF_OTHERS = (
    "select count(*) from turns where tenant = 'globex'",
    "select count(*) from turns where tenant <> 'acme' or true and tenant <> 'acme'",
    "select count(*) from turns join sessions using (session_id) where sessions.tenant = 'globex'",
    "select count(*) from (select * from sessions union all select * from sessions) as s where tenant > 'b'",
    "select count(*) from sessions tablesample system (100) where tenant > 'b'",
    "select count(*) from sessions where exists (select from turns where turns.tenant = 'globex')",
    "select count(*) from only sessions where sessions::text like '%globex%'",
    "select count(*) from tenant_readers where tenant <> 'acme'",
    # statistics of columns that have row-level security are hidden
    "select count(*) from pg_stats where schemaname = 'public'",
    "select count(*) from pg_stat_activity where query like '%globex%' and pid <> pg_backend_pid()",
)


async def test_no_query_finds_rows_of_another_tenant(readers: "Access") -> None:
    connection = await readers.connect("acme")
    assert await connection.fetchval("select count(*) from turns") == 4
    for query in OF_OTHERS:
        assert await connection.fetchval(query) == 0, query
    await connection.close()


FORBIDDEN = (
    *(
        f"select * from {table}"
        for table in (
            "event_log",
            "dead_letters",
            "checkpoints",
            "projections",
            "erased_sessions",
            "access_roles",
            "participants_sessions",
            "pg_authid",
            "pg_statistic",
            "later",
        )
    ),
    "set role {projections}",
    "set role {reader}",
    "set role {analyst}",
    "set role {owner}",
    "set session authorization {owner}",
    "begin read write; update sessions set tenant = 'acme'",
    "begin read write; delete from turns",
    "begin read write; insert into tenant_readers values (current_user, 'globex')",
    "begin read write; update tenant_readers set tenant = 'globex'",
    "begin read write; insert into sessions (session_id, tenant) values ('x', 'acme')",
    "begin read write; create table public.mine (id int)",
    "begin read write; create temporary table mine (id int)",
    "begin read write; create schema mine",
    "begin read write; create function public.mine() returns int language sql as 'select 1'",
    "begin read write; select erase_session('x')",
    "begin read write; select lo_create(0)",
    "begin read write; select pg_logical_emit_message(true, 'x', 'y')",
    "select projection_lag()",
    "select pg_advisory_lock(1)",
    "select pg_try_advisory_xact_lock_shared(1)",
    "begin; lock table sessions in share mode",
    "begin read write; alter table sessions disable row level security",
    "set row_security = off; select count(*) from sessions",
    "copy sessions to program 'cat'",
    "select pg_read_file('/etc/hostname')",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{owner}'",
    "begin read write; alter role {me} bypassrls",
    "begin read write; grant {analyst} to {me}",
)


async def test_everything_else_is_refused(readers: "Access") -> None:
    await readers.execute("create table later (id int)", "owner")
    names = {kind: readers.group(kind) for kind in ("projections", "reader", "analyst")}
    await readers.make(dsn=readers.superuser_dsn)  # what only a superuser can take from all roles
    held, connection = await readers.connect("owner"), await readers.connect("acme")
    for statement in FORBIDDEN:
        asked = statement.format(**names, owner=readers.owner, me=readers.name("acme"))
        with pytest.raises(DENIED) as refused:  # the statement that is not refused is in the traceback
            await connection.execute(asked)
        assert "globex" not in str(refused.value), asked
        await connection.execute("rollback")
    await connection.close()
    await held.close()


async def test_the_group_role_itself_has_no_tenant(readers: "Access") -> None:
    connection = await readers.connect("acme")
    await connection.execute(f"set role {readers.group('tenants')}")

    assert await connection.fetchval("select count(*) from sessions") == 0
    await connection.close()


DIVIDES = "select * from turns where 1 / (case when tenant = 'globex' then 0 else 1 end) = 1"


async def test_a_condition_of_the_reader_does_not_see_other_rows(readers: "Access") -> None:
    """Not even one that is cheap and raises: rows of others are left out before it runs."""
    connection = await readers.connect("acme")
    for query in (
        "select * from turns where cast(user_text as integer) = 1",
        f"{DIVIDES} and cast(user_text as integer) = 1",
        "select json_object_agg(assistant_text, user_text)::text::integer from turns",
    ):
        with pytest.raises(asyncpg.PostgresError) as raised:
            await connection.fetch(query)
        assert "nine" not in f"{raised.value} {raised.value.detail}"
    assert len(await connection.fetch(DIVIDES)) == 4
    explained = await connection.fetch(
        "explain (analyze, verbose) select * from turns where tenant = 'globex'"
    )
    assert SECRET not in str(explained)
    await connection.close()


COUNTED_TEXTS = """
select relname || '.' || attname from pg_statistic
  join pg_class on pg_class.oid = starelid join pg_attribute on attrelid = starelid and attnum = staattnum
 where relname = any($1::text[]) and atttypid = 'text'::regtype and not attname = any($2::text[])
"""


async def test_estimates_do_not_tell_texts_of_others(readers: "Access", database: Database) -> None:
    """Statistics are of all rows: estimates of `<` around a common text differ, letter by letter."""
    connection = await readers.connect("acme")

    async def estimates() -> set[str]:
        found = [
            f"explain select * from turns where user_text < '{text}'"
            for text in ("globex wants a s", "globex wants a u")
        ]
        return {str(await connection.fetchval(query)) for query in found}

    for table in TABLES:  # as in the release before
        columns = await database.pool.fetch(
            "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0", table
        )
        for (column,) in columns:
            await database.pool.execute(f"alter table {table} alter column {column} set statistics 100")
    await database.pool.execute(
        "insert into turns select (jsonb_populate_record(turns, jsonb_build_object('turn', number))).*"
        " from turns, generate_series(100, 3000) as number where user_text = $1",
        SECRET,
    )
    await database.pool.execute("analyze")
    assert len(await estimates()) == 2

    await readers.make()
    for build_again in (False, True):
        if build_again:
            for projection in PROJECTIONS:
                await build(readers.superuser_dsn, database, projection)
        else:
            assert len(await estimates()) == 1
        await database.pool.execute("analyze")
        assert await database.pool.fetch(COUNTED_TEXTS, [*TABLES], [*COUNTED]) == []
    await connection.close()


TERM = "phone=4911234"
MANY_TERMS = """
insert into sessions
select (jsonb_populate_record(sessions, jsonb_build_object(
           'session_id', 'ses_' || number, 'metadata_terms', jsonb_build_array($1::text, number)))).*
  from sessions, generate_series(1, 1000) as number where tenant = 'globex'
"""


async def test_estimates_do_not_tell_metadata_of_others(readers: "Access", database: Database) -> None:
    """Postgres counts texts in lists too, and trusts their comparison: `@>` tells whether one is there."""
    connection = await readers.connect("acme")
    await database.pool.execute(MANY_TERMS, TERM)

    async def estimates() -> set[str]:
        await database.pool.execute("analyze sessions")
        plans = [
            await connection.fetchval(f"explain select from sessions where metadata_terms @> array['{text}']")
            for text in (TERM, "phone=0")
        ]
        return set(map(str, plans))

    await database.pool.execute("alter table sessions alter column metadata_terms set statistics -1")
    assert len(await estimates()) == 2  # as `roles` of a release before left it
    await readers.make()
    assert len(await estimates()) == 1
    for projection in PROJECTIONS:
        await build(readers.superuser_dsn, database, projection)
    await database.pool.execute(MANY_TERMS, TERM)
    assert len(await estimates()) == 1
    await connection.close()


async def test_lists_are_counted_while_nobody_reads_directly(access: "Access", database: Database) -> None:
    """Without counts, a filter by metadata that most sessions share sorts them all."""
    query = "select attstattarget from pg_attribute where attrelid = 'sessions'::regclass and attname = $1"
    await access.make("service=reader")
    for projection in PROJECTIONS:
        await build(access.superuser_dsn, database, projection)

    assert await database.pool.fetchval(query, "metadata_terms") in (None, -1)
    await access.make("acme", tenant="acme")
    assert await database.pool.fetchval(query, "metadata_terms") == 0


async def test_a_reader_uses_the_index_of_its_tenant(readers: "Access") -> None:
    connection = await readers.connect("acme")
    await connection.execute("set enable_seqscan = off")
    plan = str(await connection.fetch("explain select * from sessions order by created_at"))
    await connection.close()

    assert "Index Cond: (tenant = (InitPlan 1).col1)" in plan


async def test_a_reader_that_is_removed_reads_nothing_in_its_open_connection(readers: "Access") -> None:
    connection = await readers.connect("acme")
    await readers.make(remove=["acme"])

    with pytest.raises(DENIED):
        await connection.fetch("select * from sessions")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await readers.connect("acme")
    await connection.close()


async def test_a_reader_gets_no_tenant_but_its_own(readers: "Access") -> None:
    with pytest.raises(SystemExit, match="acme exists, and is the reader of tenant acme"):
        await readers.make("acme", tenant="globex")
    await readers.make("acme", tenant="acme")


async def test_rights_that_a_reader_has_otherwise_are_refused(readers: "Access") -> None:
    analyst = readers.name("analyst")
    await readers.execute(f"create role {analyst} login; grant select (tenant) on event_log to {analyst}")
    with pytest.raises(SystemExit, match="analyst exists, and is granted select on event_log"):
        await readers.make("analyst", tenant="acme")

    for right in ("select on event_log", "truncate on sessions", "select on timeline_sessions"):
        await readers.execute(f"grant {right} to public", "owner")
        with pytest.raises(SystemExit, match=f"every role of the database has {right}"):
            await readers.make("new", tenant="acme")
        await readers.execute(f"revoke {right} from public", "owner")
    await readers.execute("grant select on sessions to public", "owner")  # its rows are those of the tenant
    await readers.make("new", tenant="acme")


async def test_a_password_is_changed_while_connections_go_on(readers: "Access") -> None:
    before = readers.dsn("acme")
    connection = await readers.connect("acme")
    await readers.make("acme", tenant="acme")

    assert await connection.fetchval("select count(*) from sessions") == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(before)
    again = await readers.connect("acme")
    await again.close()
    await connection.close()
