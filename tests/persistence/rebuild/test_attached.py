"""What operators attached to a view's tables is on the new ones, or the rebuild refuses before its work."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.chassis.database import Database
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild.attached import InUse
from antiphon.persistence.rebuild.build import build

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import NewSession

_TENANTS = "select coalesce(array_agg(distinct tenant), '{}') from turns"


@pytest.fixture
async def role(database: Database, postgres_dsn: str) -> AsyncIterator[str]:
    """A role that may read nothing yet."""
    name = f"reader_{postgres_dsn.rpartition('_')[2]}"
    await database.pool.execute(f"create role {name}")
    yield name
    await database.pool.execute(f"drop owned by {name}")
    await database.pool.execute(f"drop role {name}")


@pytest.fixture
async def turns(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    """The view `turns`, with calls of two tenants."""
    for name, tenant in (("a", "acme"), ("b", "globex")):
        await filled.put(new_session(name, tenant).whole_call())
    for projection in (SESSIONS, TURNS):
        await build(postgres_dsn, database, projection)


async def _as(database: Database, role: str, query: str) -> object:
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"set local role {role}")
        return await connection.fetchval(query)


@pytest.mark.usefixtures("turns")
async def test_a_policy_still_hides_the_rows_of_other_tenants(
    database: Database, postgres_dsn: str, role: str
) -> None:
    await database.pool.execute(
        f"""
        grant select on turns, sessions to {role};
        alter table turns enable row level security;
        alter table turns force row level security;
        create policy own on turns as permissive for select to {role}
         using (tenant = 'acme' and exists (
            select from sessions where sessions.session_id = turns.session_id));
        create policy writes on turns as restrictive for update using (true) with check (tenant <> '');
        """
    )
    found = "select to_jsonb(pg_policies) from pg_policies where tablename = 'turns' order by policyname"
    before = [row[0] for row in await database.pool.fetch(found)]

    await build(postgres_dsn, database, TURNS)

    assert await _as(database, role, _TENANTS) == ["acme"]
    assert [row[0] for row in await database.pool.fetch(found)] == before
    flags = "select relrowsecurity and relforcerowsecurity from pg_class where oid = 'turns'::regclass"
    assert await database.pool.fetchval(flags)


@pytest.mark.usefixtures("turns")
async def test_privileges_on_columns_stay_and_none_are_added(
    database: Database, postgres_dsn: str, role: str
) -> None:
    await database.pool.execute(f"grant select (session_id, turn) on turns to {role}")
    await database.pool.execute(f"alter default privileges grant select on tables to {role}")
    try:
        await build(postgres_dsn, database, TURNS)
    finally:
        await database.pool.execute(f"alter default privileges revoke select on tables from {role}")

    assert await _as(database, role, "select count(turn) from turns") == 6
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _as(database, role, "select count(user_text) from turns")


@pytest.mark.usefixtures("turns")
async def test_publications_still_have_the_table(database: Database, postgres_dsn: str) -> None:
    await database.pool.execute(
        """
        create publication whole for table turns;
        create publication part for table turns (session_id, tenant, epoch, turn) where (turn > 1);
        alter table turns replica identity full;
        """
    )
    found = "select to_jsonb(p) from pg_publication_tables as p order by pubname"
    before = [row[0] for row in await database.pool.fetch(found)]

    await build(postgres_dsn, database, TURNS)

    assert len(before) == 2
    assert [row[0] for row in await database.pool.fetch(found)] == before
    identity = "select relreplident from pg_class where oid = 'turns'::regclass"
    assert await database.pool.fetchval(identity) == b"f"


@pytest.mark.usefixtures("turns")
async def test_the_owner_stays(database: Database, postgres_dsn: str, role: str) -> None:
    await database.pool.execute(f"grant create on schema public to {role}")
    await database.pool.execute(f"alter table turns owner to {role}")

    await build(postgres_dsn, database, TURNS)

    owner = await database.pool.fetchval("select tableowner from pg_tables where tablename = 'turns'")
    await database.pool.execute("alter table turns owner to current_user")
    assert owner == role


_FUNCTION = "create function noted() returns trigger language plpgsql as 'begin return null; end';"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"{_FUNCTION} create trigger note after insert on turns execute function noted()", "trigger note"),
        ("create rule quiet as on delete to turns do instead nothing", "rule quiet"),
        ("create table child () inherits (turns)", "table child"),
        (
            """
            create table audits (session_id text collate "C", epoch text collate "C", turn integer,
              foreign key (session_id, epoch, turn) references turns)
            """,
            "constraint audits.* on table audits",
        ),
        ("create function one() returns turns language sql as 'select null::turns'", r"function one\(\)"),
        (
            "create policy other on sessions using (exists (select from turns where turn > 1))",
            "policy other on table sessions",
        ),
        ("create materialized view longest as select * from turns", "materialized view longest"),
    ],
)
@pytest.mark.usefixtures("turns")
async def test_what_cannot_be_copied_is_named_before_anything_is_built(
    database: Database, postgres_dsn: str, statement: str, named: str
) -> None:
    await database.pool.execute(statement)
    folded = 0

    def on_progress(events: int, _: float) -> None:
        nonlocal folded
        folded += events

    with pytest.raises(InUse, match=rf"{named}.* turns, which a rebuild replaces: drop it"):
        await asyncio.wait_for(build(postgres_dsn, database, TURNS, on_progress=on_progress), 60)

    assert folded == 0
    assert await database.pool.fetchval("select count(*) from turns") == 6


@pytest.mark.usefixtures("turns")
async def test_a_policy_that_the_new_tables_cannot_have_is_refused_first(
    database: Database, postgres_dsn: str
) -> None:
    await database.pool.execute("alter table turns add column secret text")
    await database.pool.execute("create policy own on turns using (secret = 'no')")

    with pytest.raises(InUse, match=r"create policy own on .*turns.*secret"):
        await build(postgres_dsn, database, TURNS)

    assert await database.pool.fetchval("select to_regclass('rebuild_turns.build')") is None
