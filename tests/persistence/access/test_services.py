"""Each service does its whole work with its own role, and nothing else."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.fixtures.filled_log import FilledLog
from tests.persistence.projections.test_retention import call

from antiphon.chassis.audit import Audit
from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.persistence.retention import erase_expired, erase_late

if TYPE_CHECKING:
    from tests.persistence.access.conftest import Access
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, Replicas

DENIED = asyncpg.InsufficientPrivilegeError


async def command(dsn: str, *arguments: str) -> tuple[int, str]:
    """Run a command of persistence; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.persistence", *arguments),
        env={**os.environ, "ANTIPHON_POSTGRES_DSN": dsn},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, (out + err).decode()


@pytest.mark.slow
async def test_ingest_and_views_run_with_a_role_each(
    bus: Bus,
    access: "Access",
    database: Database,
    replica: "Replicas",
    publish: "Publish",
    event_log: "LogReader",
    eventually: "Eventually",
    new_session: "NewSession",
) -> None:
    await access.make("ingest=ingest", "views=projections")
    await access.make("acme", tenant="acme")
    ingest = replica(ANTIPHON_POSTGRES_DSN=access.dsn("ingest"))
    ingest.arguments = ("--no-views",)
    views = replica(ANTIPHON_POSTGRES_DSN=access.dsn("views"))
    views.arguments = ("--no-ingest",)
    for each in (ingest, views):
        await each.start()
        await each.until_ready()
    acme, globex = new_session("a", "acme"), new_session("b", "globex")
    events = [*call(acme, test=True), *call(globex, test=False)]
    await publish(events)
    await event_log.until(len(events))
    ended = "select count(*) = 2 from sessions where ended_at is not null"
    saved = "select count(*) = 6 from turns"

    async def folded() -> bool:
        return bool(await database.pool.fetchval(f"select ({ended}) and ({saved})"))

    await eventually(folded)

    # the process builds a view that is out of date, which swaps its tables
    before = await database.pool.fetchval("select 'turns'::regclass::oid")
    await database.pool.execute("update projections set version = 0 where name = 'turns'")

    async def swapped() -> bool:
        found = "select version > 0 and 'turns'::regclass::oid <> $1 from projections where name = 'turns'"
        return bool(await database.pool.fetchval(found, before))

    await eventually(swapped)
    owner = "select pg_get_userbyid(relowner) from pg_class where oid = 'turns'::regclass"
    assert await database.pool.fetchval(owner) == access.group("projections")
    # and so does the owner, with what the process has begun and not ended
    await access.execute("create table rebuild_marker (id int)", "owner")
    assert (await command(access.dsn("owner"), "rebuild", "turns", "participants"))[0] == 0
    reader = await access.connect("acme")
    assert await reader.fetchval("select array_agg(distinct tenant) from turns") == ["acme"]
    with pytest.raises(DENIED):
        await reader.fetch("select * from rebuild_marker")
    await reader.close()

    # retention, as ingest runs it
    own = await Database.connect(access.dsn("ingest"))
    assert await erase_expired(own, Audit(bus), timedelta(0)) == 1
    assert await erase_late(own, Audit(bus), timedelta(0)) == 0
    await own.close()
    assert await database.pool.fetchval("select array_agg(tenant) from sessions") == ["globex"]
    assert await database.pool.fetchval("select count(*) from event_log where tenant = 'acme'") == 0
    for arguments in (("verify", "--log"), ("verify",), ("status",)):
        code, printed = await command(access.dsn("owner"), *arguments)
        assert code == 0, printed
    assert (await ingest.end(), await views.end()) == (0, 0)


@pytest.mark.parametrize(
    ("login", "statements"),
    [
        (
            "ingest",
            (
                "delete from event_log",
                "update event_log set tenant = 'globex'",
                "truncate event_log",
                "drop table event_log",
                "alter table sessions disable row level security",
                "insert into sessions (session_id) values ('x')",
                "select assistant_text from turns",
                "select * from projection_checkpoints",
                "update projections set version = 9",
                "delete from dead_letters",
                "create table public.more (id int)",
                "create schema more",
                "create temporary table more (id int)",
                "insert into tenant_readers values (current_user, 'acme')",
            ),
        ),
        (
            "views",
            (
                "insert into checkpoints (name) values ('x')",
                "delete from event_log",
                "update event_log set tenant = 'globex'",
                "select * from dead_letters",
                "select erase_session('x')",
                "drop table event_log",
                "insert into tenant_readers values (current_user, 'acme')",
                "delete from projection_skips",
            ),
        ),
        (
            "api",
            (
                "select * from dead_letters",
                "select * from projections",
                "select * from tenant_readers",
                "select * from participants_sessions",
                "insert into event_log select * from event_log",
                "update sessions set status = 'closed'",
                "delete from turns",
                "select erase_session('x')",
                "select projection_lag()",
                "create table public.more (id int)",
                "select * from later",
            ),
        ),
        (
            "analyst",
            (
                "select * from event_log",
                "select * from timeline_sessions",
                "delete from sessions",
                "select * from later",
            ),
        ),
    ],
)
async def test_a_role_may_do_nothing_else(access: "Access", login: str, statements: tuple[str, ...]) -> None:
    kind = {"views": "projections", "api": "reader"}.get(login, login)
    await access.make(f"{login}={kind}")
    await access.execute("create table later (id int)", "owner")
    await access.make()  # as a later migration: rights are given again
    connection = await access.connect(login)
    for statement in statements:
        with pytest.raises(DENIED):
            await connection.execute(statement)
    await connection.close()


async def test_an_operator_of_the_builder_of_views_does_not_run_as_the_owner(
    access: "Access", database: Database, new_session: "NewSession"
) -> None:
    """It may create operators in public, which fit the types of a query better than those of Postgres."""
    sessions = [new_session("a"), new_session("b")]
    await FilledLog(database).put([event for session in sessions for event in session.whole_call()])
    await access.make("ingest=ingest", "views=projections")
    await access.execute(
        "create function public.joined(text, smallint) returns text language plpgsql as"
        " $$ begin delete from public.event_log; return ''; end $$;"
        " create operator public.|| (function = public.joined, leftarg = text, rightarg = smallint)",
        "views",
    )
    ingest = await access.connect("ingest")
    erased = sessions[0].session_id
    assert await ingest.fetchval("select erase_session($1)", erased) > 0
    await ingest.close()

    left = await database.pool.fetch("select distinct session_id from event_log")
    assert [row[0] for row in left] == [sessions[1].session_id]


async def test_a_process_that_lacks_a_right_names_it_and_the_command(
    access: "Access", replica: "Replicas", bus: Bus
) -> None:
    await access.make("ingest=ingest")
    await access.execute(f"revoke insert on event_log from {access.group('ingest')}", "owner")
    await access.execute("drop policy antiphon_all on sessions", "owner")
    ingest = replica(ANTIPHON_POSTGRES_DSN=access.dsn("ingest"))
    ingest.arguments = ("--no-views",)
    await ingest.start()

    assert await asyncio.wait_for(ingest.process.wait(), 60) == 1
    said = ingest.log.read_text()
    assert (
        f"{access.name('ingest')} of ANTIPHON_POSTGRES_DSN lacks insert on event_log, rows on sessions: run"
        in said
    )
    assert f"roles --login {access.name('ingest')}=ingest --apply" in said
