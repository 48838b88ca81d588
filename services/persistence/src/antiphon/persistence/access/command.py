"""The command `roles`: print the statements, or run them in one transaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import typer

from antiphon.chassis.database import REFUSED, TRANSIENT
from antiphon.chassis.postgres import connect
from antiphon.contracts.views import TABLES
from antiphon.persistence.access.passwords import ITERATIONS, read_passwords, verifier
from antiphon.persistence.access.roles import (
    Login,
    Refused,
    Role,
    check_group,
    check_login,
    check_removal,
    group_names,
    group_statements,
    login_statements,
    read_login,
    removal_statements,
    superuser_queries,
)
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.rights.declaration import ANALYST, RIGHTS, Access
from antiphon.persistence.rights.secure import all_statements, read_access

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CANNOT_CONNECT: tuple[type[Exception], ...] = (*REFUSED, *TRANSIENT)
Say = Callable[[str], object]
GRANTORS_COUNT = 16  # the version of Postgres since which a membership belongs to the one who granted it
# Two of these would change the same rights at once, which Postgres refuses with an internal error.
ONE_AT_A_TIME = "lock table access_roles in share row exclusive mode"
RIGHTED = sorted({table for tables in RIGHTS.values() for table in tables})
LOCK_TIMEOUT = "10s"  # row-level security waits for those who use a view
NOT_SUPERUSER = (
    "The locks of leases stay open to direct readers, who could stop ingest: run this once as a superuser, "
    "or give readers a replica."
)

_ROLE = """
select json_build_object(
    'name', rolname,
    'powers', array_remove(array[
        case when rolsuper then 'superuser' end, case when rolbypassrls then 'free of row-level security' end,
        case when rolcreaterole then 'able to create roles' end,
        case when rolcreatedb then 'able to create databases' end,
        case when rolreplication then 'able to replicate' end], null),
    'member_of', array(
        select distinct pg_get_userbyid(roleid)::text from pg_auth_members
         where member = pg_roles.oid order by 1),
    'granted', array(
        select json_build_array(pg_get_userbyid(roleid), pg_get_userbyid(grantor)) from pg_auth_members
         where member = pg_roles.oid order by pg_get_userbyid(roleid), pg_get_userbyid(grantor)),
    'owns', exists (select from pg_class where relowner = pg_roles.oid)
           or exists (select from pg_database where datdba = pg_roles.oid),
    'can_login', rolcanlogin,
    'tenant', (select tenant from tenant_readers where role = rolname),
    'given', array(
        select lower(privilege_type) || ' on ' || relation.oid::regclass
          from pg_class as relation
         cross join lateral (
                select relacl as acl union all
                select attacl from pg_attribute where attrelid = relation.oid) as acls,
               aclexplode(acl)
         where grantee = pg_roles.oid
         union select 'execute on ' || oid::regprocedure from pg_proc, aclexplode(proacl)
         where grantee = pg_roles.oid order by 1))::text
  from pg_roles where rolname = $1
"""
# A tenant's reader is one of all: it could read or change this, whatever its group may.
_PUBLIC = """
select distinct lower(privilege_type) || ' on ' || relname
  from pg_class, lateral (
         select relacl as acl union all
         select attacl from pg_attribute where attrelid = pg_class.oid) as acls,
       aclexplode(acl)
 where relnamespace = 'public'::regnamespace and grantee = 0
   and (relname = any($1::text[]) or relname = any($2::text[]) and privilege_type <> 'SELECT')
 order by 1
"""
_WITH_RIGHTS = """
select distinct quote_ident(pg_get_userbyid(grantee)) as role
  from pg_class, aclexplode(relacl)
 where relname = any($1::text[]) and relnamespace = 'public'::regnamespace and grantee not in (0, relowner)
   and privilege_type = 'SELECT' and not pg_get_userbyid(grantee) = any($2::text[])
   and not exists (select from unnest($2::text[]) as kind (role)
                    where exists (select from pg_roles where rolname = kind.role)
                      and pg_has_role(grantee, kind.role, 'usage'))
 order by role
"""
_END_CONNECTIONS = """
select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and pid <> pg_backend_pid()
"""


class Plan(msgspec.Struct, frozen=True):
    """What is asked for: logins to make and to remove, and their passwords."""

    prefix: str | None
    logins: Sequence[Login]
    remove: Sequence[str]
    passwords: Mapping[str, str]


def plan_of(
    logins: Sequence[str],
    tenant: str | None,
    remove: Sequence[str],
    passwords: Path | None,
    prefix: str | None,
) -> Plan:
    """Read the options. Raises typer.BadParameter."""
    if tenant is not None and not logins:
        raise typer.BadParameter("--tenant needs --login NAME")
    try:
        return Plan(prefix, [read_login(each, tenant) for each in logins], remove, read_passwords(passwords))
    except Refused as error:
        raise typer.BadParameter(str(error)) from error


async def roles(dsn: str, plan: Plan, *, apply: bool, say: Say) -> None:
    """Print what makes the roles, or make them. Exits with 1 when that cannot be done."""
    try:
        connection = await connect(dsn, name="persistence roles", lock_timeout=LOCK_TIMEOUT)
    except CANNOT_CONNECT as error:
        raise SystemExit(f"Postgres cannot be used: {error}") from error
    try:
        await check(connection)
        await _roles(connection, plan, apply, say)
    except (Refused, SchemaMismatch) as error:
        raise SystemExit(str(error)) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SystemExit(
            f"Postgres refuses: {error}. Nothing was changed. Run this as a role that may create roles and "
            "owns the tables, or run what it prints without --apply as an administrator."
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise SystemExit(f"A view is in use: {error}. Nothing was changed, run this again.") from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres: {error!r}. Nothing was changed.") from error
    finally:
        connection.terminate()


async def _roles(connection: "Connection", plan: Plan, apply: bool, say: Say) -> None:
    access = await read_access(connection)
    groups = group_names(access, plan.prefix)
    removal = await _check(connection, plan, access, groups)
    unread = await connection.fetch(_WITH_RIGHTS, [table.name for table in access.views], [*groups.values()])
    if apply:
        await _make(connection, plan, access, groups, removal)
        _tell(plan, groups, say)
        for name in plan.remove:
            await _end_connections(connection, name, say)
        if not access.superuser and await connection.fetch(superuser_queries(access, groups)[-1]):
            say(NOT_SUPERUSER)
    else:
        _print(plan, access, groups, removal, say)
    for (role,) in unread:
        start = "" if apply else "-- "
        say(f"{start}{role} may select views, and sees no rows of them: grant {groups[ANALYST]} to it")


async def _check(
    connection: "Connection", plan: Plan, access: Access, groups: Mapping[str, str]
) -> list[str]:
    """Return the statements that remove logins, once nothing speaks against the plan. Raises Refused."""
    for group in groups.values():
        check_group(await _role(connection, group))
    for login in plan.logins:
        check_login(login, groups, await _role(connection, login.name))
    if any(login.tenant is not None for login in plan.logins):
        await _check_public(connection, access)
    by_grantor = connection.get_server_version().major >= GRANTORS_COUNT
    removal: list[str] = []
    for name in plan.remove:
        role = check_removal(name, await _role(connection, name), groups, access.owner)
        removal += removal_statements(role, groups, by_grantor=by_grantor)
    return removal


async def _check_public(connection: "Connection", access: Access) -> None:
    internal = [table for table in RIGHTED if table not in TABLES and table != "tenant_readers"]
    internal += [table.name for table in access.views if table.name not in TABLES]
    if found := [
        right for (right,) in await connection.fetch(_PUBLIC, internal, [*TABLES, "tenant_readers"])
    ]:
        raise Refused(
            f"every role of the database has {', '.join(found)}, and a reader of a tenant would have it too: "
            f"revoke {found[0]} from public"
        )


async def _role(connection: "Connection", name: str) -> Role | None:
    found = await connection.fetchval(_ROLE, name)
    return None if found is None else msgspec.json.decode(found, type=Role)


async def _make(
    connection: "Connection",
    plan: Plan,
    access: Access,
    groups: Mapping[str, str],
    removal: Sequence[str],
) -> None:
    setting = await connection.fetchval("select current_setting('scram_iterations', true)")
    secrets = {
        name: verifier(password, int(setting or ITERATIONS)) for name, password in plan.passwords.items()
    }
    async with connection.transaction():
        await connection.execute(ONE_AT_A_TIME)
        for statement in (*_statements(plan, access, groups, secrets), *removal):
            await connection.execute(statement)
        for statement in all_statements(await read_access(connection)):
            await connection.execute(statement)
        for query in superuser_queries(access, groups) if access.superuser else ():
            for (statement,) in await connection.fetch(query):
                await connection.execute(statement)


async def _end_connections(connection: "Connection", name: str, say: Say) -> None:
    """End what a login that was removed has open: who has run `set role` before keeps that role."""
    try:
        await connection.fetch(_END_CONNECTIONS, name)
    except asyncpg.InsufficientPrivilegeError:
        literal = name.replace("'", "''")
        say(
            f"{name} has connections, and one that has run `set role` goes on. As a superuser end them: "
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{literal}'"
        )


def _statements(
    plan: Plan, access: Access, groups: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterator[str]:
    yield from group_statements(access, groups)
    for login in plan.logins:
        yield from login_statements(login, groups, secrets.get(login.name))


def _tell(plan: Plan, groups: Mapping[str, str], say: Say) -> None:
    say(f"Group roles: {', '.join(groups.values())}.")
    for login in plan.logins:
        what = f"the rows of tenant {login.tenant}" if login.tenant else ", ".join(login.kinds)
        kept = (
            ""
            if login.name in plan.passwords
            else " Its password is as it was; psql sets one: \\password NAME."
        )
        say(f"{login.name}: {what}.{kept}")
    for name in plan.remove:
        say(f"{name}: has no access any more, and cannot log in.")


def _print(plan: Plan, access: Access, groups: Mapping[str, str], removal: Sequence[str], say: Say) -> None:
    say("-- Run this in the database with psql -v ON_ERROR_STOP=1, as a role that may do all of it.")
    say("begin;")
    for statement in (ONE_AT_A_TIME, *_statements(plan, access, groups, {}), *removal):
        say(f"{statement};")
    readers = access.readers or any(login.tenant is not None for login in plan.logins)
    for statement in all_statements(msgspec.structs.replace(access, roles=dict(groups), readers=readers)):
        say(f"{statement};")
    say("commit;")
    say("-- As a superuser: without it a direct reader could take the locks of leases, and stop ingest.")
    for query in superuser_queries(access, groups):
        say(f"{query.strip()}\n\\gexec")
    for login in plan.logins:
        say(f"-- \\password {login.name}")
