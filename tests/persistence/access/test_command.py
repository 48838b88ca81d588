"""The command `roles`: what it prints, what it does when it is run again, and what it refuses."""

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import typer

from antiphon.cli.stack.postgres_files import INSTALLED
from antiphon.persistence.access.command import NOT_SUPERUSER, plan_of
from antiphon.persistence.access.passwords import VARIABLE, read_passwords, verifier
from antiphon.persistence.access.roles import Refused

if TYPE_CHECKING:
    from tests.persistence.access.conftest import Access, Connection

RIGHTS = """
select relname, relowner::regrole::text, relacl::text, relrowsecurity from pg_class
 where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1
"""


def run_in_psql(dsn: str, script: str) -> str:
    """Run a script as an administrator does; return what psql printed."""
    command = [str(INSTALLED / "bin" / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", dsn]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def expect_ended(connection: "Connection") -> None:
    """Wait until a connection has noticed that the server ended it."""
    async with asyncio.timeout(10):
        while not connection.is_closed():  # noqa: ASYNC110 - a connection has no event for it
            await asyncio.sleep(0.01)


async def test_what_it_prints_does_the_same_for_an_administrator(access: "Access") -> None:
    printed = await access.make("api=reader", apply=False)
    assert access._passwords[access.name("api")] not in "\n".join(printed)
    await asyncio.to_thread(run_in_psql, access.superuser_dsn, "\n".join(printed))
    connection = await access.connect()
    by_hand = await connection.fetch(RIGHTS)

    await access.make("api=reader", dsn=access.superuser_dsn)  # nothing is left to do but the password
    said = await access.make()  # the owner may give rights, and alters no role of the administrator

    assert NOT_SUPERUSER not in said  # the administrator has taken the locks from all
    assert await connection.fetch(RIGHTS) == by_hand
    await connection.close()
    own = await access.connect("api")
    assert await own.fetchval("select count(*) from event_log") == 0
    await own.close()


async def test_a_role_with_more_rights_is_no_login_and_who_sees_nothing_now_is_named(
    access: "Access",
) -> None:
    await access.make("api=reader")
    with pytest.raises(SystemExit, match=r"exists, and is a member of .*_reader"):
        await access.make("api", tenant="acme")
    analyst = access.name("analyst")
    await access.execute(f"create role {analyst}; grant select on turns to {analyst}")

    said = await access.make()

    assert f"{analyst} may select views, and sees no rows of them" in said[-1]
    with pytest.raises(SystemExit, match=r"exists, and is able to create roles, .*, owner of tables"):
        await access.make("owner", tenant="acme", dsn=access.superuser_dsn)


async def test_what_another_role_granted_is_removed_too(access: "Access") -> None:
    """Postgres warns only, when a membership is revoked that another role granted."""
    await access.make("api=reader")
    connection = await access.connect("api")
    assert await connection.fetchval("select count(*) from event_log") == 0
    for _ in range(2):
        await access.make(remove=["api"], dsn=access.superuser_dsn)

    await expect_ended(connection)
    left = await access.connect()
    members = "select count(*) from pg_auth_members where member = $1::regrole"
    assert await left.fetchval(members, access.name("api")) == 0
    await left.close()


async def test_connections_of_a_removed_login_that_have_set_a_role_are_ended_or_named(
    access: "Access",
) -> None:
    await access.make("api=reader")
    connection = await access.connect("api")
    await connection.execute(f"set role {access.group('reader')}")
    said = await access.make(remove=["api"])
    assert await connection.fetchval("select count(*) from event_log") == 0  # the owner may not end it
    assert any(f"{access.name('api')} has connections" in line for line in said)

    await access.make(remove=["api"], dsn=access.superuser_dsn)
    await expect_ended(connection)


async def test_only_logins_of_ours_are_removed(access: "Access") -> None:
    await access.make()
    await access.execute(
        f"create role {access.name('boss')} superuser login; create role {access.name('other')} login"
    )
    for name, reason in (
        ("boss", "is superuser"),
        ("owner", "is able to create roles"),
        ("other", "there is nothing to remove"),
        ("nobody", "there is no login"),
    ):
        with pytest.raises(SystemExit, match=reason):
            await access.make(remove=[name], dsn=access.superuser_dsn)


async def test_several_at_once_wait_for_each_other(access: "Access") -> None:
    assert (await access.make())[-1] == NOT_SUPERUSER
    await asyncio.gather(*(access.make("api=reader", f"api{number}=reader") for number in range(4)))
    connection = await access.connect("api3")
    await connection.close()


@pytest.mark.parametrize(
    ("login", "tenant", "reason"),
    [
        ("api", None, "NAME=KIND"),
        ("api=writer", None, "the kinds are ingest, projections"),
        ("api=tenants", None, "the kinds are ingest, projections"),
        ("api=reader", "acme", "the name alone"),
        ("api", "acme' or true", "is no tenant"),
        ("pg_api=reader", None, "no name of a role"),
        ("=reader", None, "no name of a role"),
    ],
)
def test_a_login_that_makes_no_sense_is_refused(login: str, tenant: str | None, reason: str) -> None:
    with pytest.raises(typer.BadParameter, match=reason):
        plan_of([login], tenant, [], None, None)


async def test_a_name_is_quoted(access: "Access") -> None:
    name = 'o"; drop table event_log; --'
    await access.make(f"{name}=reader")
    login = access.name(name)
    own = await asyncpg.connect(access.superuser_dsn, user=login, password=access._passwords[login])
    assert await own.fetchval("select count(*) from event_log") == 0
    await own.close()


def test_passwords_are_in_no_error(tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    for content in ('{"api": "s3cret', '["s3cret"]', '{"api": "s3cret\\n"}', '{"api": 3}'):
        file.write_text(content)
        with pytest.raises(Refused) as refused:
            read_passwords(file)
        assert "s3cret" not in str(refused.value)
    assert read_passwords(None, {VARIABLE: '{"api": "s3cret"}'}) == {"api": "s3cret"}
    assert "s3cret" not in verifier("s3cret")
