"""Databases whose owner is no superuser, with a role for each service and readers of two tenants."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from antiphon.persistence.access.command import plan_of, roles
from antiphon.persistence.migrations import migrate
from antiphon.persistence.rights.declaration import quoted

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Access:
    """A database, and the roles that tests make for it."""

    def __init__(self, superuser_dsn: str, folder: Path, mark: str) -> None:
        self.superuser_dsn = superuser_dsn
        self.prefix, self._mark = f"group_{mark}", mark
        self.owner = self.name("owner")
        self._file = folder / "passwords.json"
        self._passwords = {self.owner: secrets.token_urlsafe(12)}

    def group(self, kind: str) -> str:
        """Return the name of a group role."""
        return f"{self.prefix}_{kind}"

    def name(self, login: str) -> str:
        """Return the name of a login in the cluster, which other tests share."""
        return f"login_{self._mark}_{login}"

    def dsn(self, login: str) -> str:
        """Return the DSN of a login; that of the owner is `owner`."""
        name = self.name(login)
        address = urlsplit(self.superuser_dsn)
        host = address.netloc.rpartition("@")[2]
        return urlunsplit(address._replace(netloc=f"{name}:{self._passwords[name]}@{host}"))

    async def make(
        self,
        *logins: str,
        tenant: str | None = None,
        remove: Sequence[str] = (),
        dsn: str | None = None,
        apply: bool = True,
    ) -> list[str]:
        """Run the command `roles` as the owner, with a new password for each login; return what it says."""
        named = [self.name(login) for login in logins]
        for name in named:
            self._passwords[name.partition("=")[0]] = secrets.token_urlsafe(12)
        self._file.write_text(json.dumps(self._passwords))
        said: list[str] = []
        plan = plan_of(named, tenant, [self.name(login) for login in remove], self._file, self.prefix)
        await roles(dsn or self.dsn("owner"), plan, apply=apply, say=said.append)
        return said

    async def connect(self, login: str | None = None) -> "Connection":
        """Connect as a login, or as a superuser."""
        return await asyncpg.connect(self.superuser_dsn if login is None else self.dsn(login))

    async def execute(self, statement: str, login: str | None = None) -> None:
        """Execute a statement as a login, or as a superuser."""
        connection = await self.connect(login)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def create_owner(self) -> None:
        """Make the owner, who may create roles, and give it the database."""
        database = urlsplit(self.superuser_dsn).path[1:]
        await self.execute(
            f"create role {self.owner} login createrole password '{self._passwords[self.owner]}';"
            f' alter database "{database}" owner to {self.owner}'
        )

    async def drop_roles(self) -> None:
        """Drop the roles; what they own goes with the database."""
        connection = await self.connect()
        found = await connection.fetch(
            "select rolname from pg_roles where rolname like $1", f"%{self._mark}%"
        )
        for (name,) in found:
            await connection.execute(
                f"reassign owned by {quoted(name)} to current_user; drop owned by {quoted(name)}"
            )
        for (name,) in found:
            await connection.execute(f"drop role {quoted(name)}")
        await connection.close()


@pytest.fixture
async def access(empty_dsn: str, tmp_path: Path) -> AsyncIterator[Access]:
    """A migrated, empty database of an owner that is no superuser; there are no roles yet."""
    access = Access(empty_dsn, tmp_path, uuid4().hex[:8])
    await access.create_owner()
    await asyncio.to_thread(migrate, access.dsn("owner"))
    yield access
    await access.drop_roles()


@pytest.fixture
async def postgres_dsn(access: Access) -> str:
    """The address of the database, as a superuser: for the fixtures that look at what others do."""
    return access.superuser_dsn
