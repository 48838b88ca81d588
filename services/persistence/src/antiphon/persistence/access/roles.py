"""Group roles, which have the rights, and logins, which are their members: as statements."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from antiphon.contracts.ids import TENANT_PATTERN
from antiphon.persistence.rights.declaration import INGEST, KINDS, PROJECTIONS, TENANTS, Access, quoted

PREFIX = re.compile(r"[a-z][a-z0-9_]{0,40}")
LONGEST_NAME = 63  # Postgres cuts off the rest
LOGIN_KINDS = tuple(kind for kind in KINDS if kind != TENANTS)

CONNECTIONS_OF_A_READER = 5
_AGAIN = "on conflict (role) do update set tenant = excluded.tenant"
SETTINGS_OF_A_READER = {  # a reader may change them: they are limits against mistakes
    "default_transaction_read_only": "on",
    "statement_timeout": "'30s'",
    "idle_in_transaction_session_timeout": "'60s'",
}

# Anybody may execute these in a database: a reader could take the locks of leases, and write.
_TEMPTING = """
select format('revoke execute on function %s from public', oid::regprocedure)
  from pg_proc
 where pronamespace = 'pg_catalog'::regnamespace
   and proname ~ '^(pg_(try_)?advisory_|pg_logical_emit_message$|lo_(creat|create|from_bytea)$)'
   and has_function_privilege('public', oid, 'execute')
"""
_LOCKS = """
select format('grant execute on function %s to {}', oid::regprocedure)
  from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^pg_(try_)?advisory_'
"""


class Refused(Exception):
    """The roles cannot be as they are asked for; the message says why."""


class Login(Struct, frozen=True):
    """A login, the kinds of access that it has, and for a direct reader its tenant."""

    name: str
    kinds: tuple[str, ...]
    tenant: str | None = None


class Role(Struct, frozen=True):
    """A role of the cluster as it is."""

    name: str
    powers: list[str]  # such as superuser
    member_of: list[str]
    owns: bool  # tables of this database
    can_login: bool
    tenant: str | None = None  # that it reads directly
    given: list[str] = []  # rights that are its own, not those of a group
    granted: list[tuple[str, str]] = []  # the groups that it is a member of, and who made it one


def read_login(text: str, tenant: str | None) -> Login:
    """Read NAME=KIND,… or, with a tenant, NAME. Raises Refused."""
    name, equals, listed = text.partition("=")
    if not name or len(name.encode()) > LONGEST_NAME or "\0" in name or name.startswith("pg_"):
        raise Refused(f"{text!r} is no name of a role: 1 to {LONGEST_NAME} bytes, not beginning with pg_")
    if tenant is not None:
        if equals:
            raise Refused("with --tenant, --login is the name alone: a direct reader has no other access")
        if not re.fullmatch(TENANT_PATTERN, tenant):
            raise Refused(f"{tenant!r} is no tenant: it must match {TENANT_PATTERN}")
        return Login(name, (TENANTS,), tenant)
    kinds = tuple(dict.fromkeys(filter(None, listed.split(","))))
    if not kinds or any(kind not in LOGIN_KINDS for kind in kinds):
        raise Refused(f"{text!r} must be NAME=KIND,…; the kinds are {', '.join(LOGIN_KINDS)}")
    return Login(name, kinds)


def group_names(access: Access, prefix: str | None) -> dict[str, str]:
    """Return the group role of each kind: those of the database, or new ones. Raises Refused."""
    if access.roles and prefix is not None and set(access.roles.values()) != set(_names(prefix).values()):
        raise Refused(f"the database has the roles {', '.join(sorted(access.roles.values()))} already")
    if prefix is not None and not PREFIX.fullmatch(prefix):
        raise Refused(f"the prefix {prefix!r} must match {PREFIX.pattern}")
    return {**_names(prefix or "antiphon"), **access.roles}


def _names(prefix: str) -> dict[str, str]:
    return {kind: f"{prefix}_{kind}" for kind in KINDS}


def group_statements(access: Access, groups: Mapping[str, str]) -> list[str]:
    """Return what makes the group roles, and lets them use the schema; safe to run again."""
    database, owner = quoted(access.database), quoted(access.owner)
    listed = ", ".join(quoted(role) for role in groups.values())
    return [
        *(_create(role, "nologin") for role in groups.values()),
        # the owner of the tables migrates and rebuilds the views of that role
        _unless(
            f"pg_has_role({_text(access.owner)}, {_text(groups[PROJECTIONS])}, 'usage')",
            f"grant {quoted(groups[PROJECTIONS])} to {owner}",
        ),
        f"grant usage on schema public to {listed}",
        "revoke create on schema public from public",
        f"revoke temporary on database {database} from public",
        f"grant temporary on database {database} to {owner}",
        f"grant create on schema public to {quoted(groups[PROJECTIONS])}",
        f"grant create on database {database} to {quoted(groups[PROJECTIONS])}",
        *(
            f"insert into access_roles (kind, role) values ({_text(kind)}, {_text(role)})"
            " on conflict (kind) do update set role = excluded.role"
            for kind, role in groups.items()
        ),
    ]


def superuser_queries(access: Access, groups: Mapping[str, str]) -> Sequence[str]:
    """Return queries for statements that only a superuser may run: what public may execute by default."""
    users = ", ".join(quoted(role) for role in (groups[INGEST], groups[PROJECTIONS], access.owner))
    return (_LOCKS.format(users.replace("%", "%%")), _TEMPTING)


def login_statements(login: Login, groups: Mapping[str, str], secret: str | None) -> list[str]:
    """Return what makes a login and its memberships; `secret` is the verifier of its password."""
    name = quoted(login.name)
    member = [f"grant {quoted(groups[kind])} to {name}" for kind in login.kinds]
    found = [_create(login.name, "login"), f"alter role {name} login", *member]
    if login.tenant is not None:
        found += [f"alter role {name} set {key} = {value}" for key, value in SETTINGS_OF_A_READER.items()]
        found += [
            f"alter role {name} connection limit {CONNECTIONS_OF_A_READER}",
            f"insert into tenant_readers values ({_text(login.name)}, {_text(login.tenant)}) {_AGAIN}",
        ]
    if secret is not None:
        found.append(f"alter role {name} password {_text(secret)}")
    return found


def removal_statements(role: Role, groups: Mapping[str, str], *, by_grantor: bool) -> list[str]:
    """Return what takes all access from a login; its open connections can read nothing from then on.

    Since Postgres 16 a membership is taken back from the one who granted it, or stays (`by_grantor`).
    """
    name = quoted(role.name)
    granted = [(group, grantor) for group, grantor in role.granted if group in groups.values()]
    return [
        *(
            f"revoke {quoted(group)} from {name}{f' granted by {quoted(grantor)}' if by_grantor else ''}"
            for group, grantor in granted
        ),
        f"delete from tenant_readers where role = {_text(role.name)}",
        f"alter role {name} nologin",
    ]


def check_removal(name: str, role: Role | None, groups: Mapping[str, str], owner: str) -> Role:
    """Return a role whose access can be taken. Raises Refused if it is no login of ours."""
    if role is None or name in groups.values():
        raise Refused(f"there is no login {name} to remove")
    if role.powers or name == owner:
        what = ", ".join(role.powers) or "the owner of the tables"
        raise Refused(f"{name} is {what}: that is no login of `roles`, and is not removed")
    if role.can_login and role.tenant is None and not set(role.member_of) & set(groups.values()):
        raise Refused(
            f"{name} is a member of none of {', '.join(groups.values())}: there is nothing to remove"
        )
    return role


def check_group(known: Role | None) -> None:
    """Raise Refused if a role that exists is not ours: it has more than a group role."""
    if known is not None and (more := [*known.powers, *(f"a member of {role}" for role in known.member_of)]):
        raise Refused(
            f"the role {known.name} exists, and is {', '.join(more)}: it must be no more than a group role; "
            "name others with --prefix"
        )


def check_login(login: Login, groups: Mapping[str, str], known: Role | None) -> None:
    """Raise Refused if a role that exists has more than the login is to have."""
    wanted = {groups[kind] for kind in login.kinds}
    if login.name in groups.values():
        raise Refused(f"{login.name} is a group role: name a login of its own")
    if known is None:
        return
    more = [*known.powers, *(f"a member of {role}" for role in known.member_of if role not in wanted)]
    if login.tenant is not None and known.owns:
        more.append("owner of tables")
    if login.tenant is not None and known.given:
        more.append(f"granted {', '.join(known.given)}")
    if login.tenant is not None and known.tenant not in {None, login.tenant}:
        more.append(f"the reader of tenant {known.tenant}")
    if more:
        raise Refused(
            f"the role {login.name} exists, and is {', '.join(more)}: name a login of its own, or take that "
            "from it"
        )


def _create(role: str, how: str) -> str:
    return _unless(
        f"exists (select from pg_roles where rolname = {_text(role)})", f"create role {quoted(role)} {how}"
    )


def _unless(condition: str, statement: str) -> str:
    body = f"begin if not {condition} then {statement}; end if; end"
    return f"do {_text(body)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
