"""Postgres by TLS, and its DSN in a file: what is replaced there is used by each new connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from tests.fixtures.certificates import Authority, put
from tests.fixtures.postgres_tls import TlsFront

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.postgres_dsn import address_of
from antiphon.chassis.settings import PostgresSettings, load
from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.backup.postgres_tools import libpq_environment
from antiphon.persistence.leases.connection import Leases
from antiphon.persistence.migrations import migrate
from antiphon.persistence.projection.batch import view_dsn

pytestmark = pytest.mark.embedded_servers

OLD, NEW = "c4nary-old", "c4nary-new"
WAIT_SECONDS = 60.0


class Mounted:
    """The files of a client: the DSN, and the bundle and certificate that it names."""

    def __init__(self, folder: Path, role: str, dsn: str) -> None:
        self.folder, self.role = folder, role
        self.server, self.clients = Authority(), Authority()
        self.server.issue(folder, "server")
        self.ca = self.server.write(folder / "ca.pem")
        self.client_ca = self.clients.write(folder / "clients.pem")
        self.cert, self.key = self.clients.issue(folder, "client", common_name=role)
        self._database = urlsplit(dsn).path
        self.path = folder / "dsn"
        self.port = 0

    def dsn(self, password: str = OLD, *, mode: str = "verify-full", certified: bool = True) -> str:
        certificate = f"&sslcert={self.cert}&sslkey={self.key}" if certified else ""
        files = f"sslmode={mode}&sslrootcert={self.ca}{certificate}"
        return f"postgresql://{self.role}:{password}@127.0.0.1:{self.port}{self._database}?{files}"

    def write(self, dsn: str) -> str:
        """Replace the file; return its address."""
        put(self.path, f"{dsn}\n".encode())
        return address_of(self.path)


@pytest.fixture
async def mounted(postgres_server: Postgres, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Mounted]:
    """A role of its own, and its files."""
    role = f"role_{uuid4().hex[:12]}"
    await execute(postgres_dsn, f"create role {role} superuser login password '{OLD}'")
    yield Mounted(tmp_path / "files", role, postgres_dsn)
    await execute(
        postgres_dsn, f"select pg_terminate_backend(pid) from pg_stat_activity where usename='{role}'"
    )
    await execute(postgres_dsn, f"drop role {role}")


@pytest.fixture
async def front(mounted: Mounted, postgres_server: Postgres) -> AsyncIterator[TlsFront]:
    """TLS that demands a certificate of the client."""
    files = mounted.folder
    front = TlsFront(
        postgres_server.port, files / "server.pem", files / "server.key", clients=mounted.client_ca
    )
    async with front:
        mounted.port = front.port
        yield front


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def eventually(action: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await action()
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def unready(database: Database, because: str) -> None:
    """Wait until readiness says what is wrong."""
    async with asyncio.timeout(WAIT_SECONDS):
        said = ""
        while because not in said:
            with pytest.raises(DatabaseUnavailable) as refusal:
                await database.ready()
            said = str(refusal.value)
            assert "c4nary" not in said


async def refused(dsn: str) -> str:
    with pytest.raises((DatabaseUnavailable, DatabaseRefused)) as refusal:
        await Database.connect(dsn, connect_timeout_seconds=0.5)
    assert "c4nary" not in str(refusal.value)
    return str(refusal.value)


async def test_what_is_wrong_with_tls_names_the_dsn(
    mounted: Mounted, front: TlsFront, postgres_server: Postgres, tmp_path: Path
) -> None:
    database = await Database.connect(mounted.dsn())
    await database.ready()
    await database.close()

    assert "sslcert" in await refused(mounted.dsn(certified=False))
    mounted.cert, mounted.key = mounted.clients.issue(tmp_path, "late", expired=True)
    assert "sslcert" in await refused(mounted.dsn())
    mounted.cert, mounted.key = Authority().issue(tmp_path, "foreign")
    assert "sslcert" in await refused(mounted.dsn())
    mounted.ca = Authority().write(tmp_path / "foreign-ca.pem")
    assert "check sslrootcert in ANTIPHON_POSTGRES_DSN" in await refused(mounted.dsn())
    mounted.port = postgres_server.port
    for mode in ("require", "verify-full"):
        assert "offers no TLS" in await refused(mounted.dsn(mode=mode))


async def test_a_file_of_tls_that_cannot_be_used_is_named(mounted: Mounted, front: TlsFront) -> None:
    """OpenSSL says only that one of them is no PEM, and Python that some file does not exist."""
    database = await Database.connect(mounted.dsn())
    where = "in ANTIPHON_POSTGRES_DSN is"
    for path, named in (
        (mounted.ca, f"sslrootcert {where}"),
        (mounted.cert, f"sslcert {where}"),
        (mounted.key, "sslkey is"),
    ):
        before = path.read_bytes()
        for content in (before[:200], None):
            path.unlink()
            if content is not None:
                put(path, content)
            await database.pool.expire_connections()
            await unready(database, f"{named} '{path}'")
            put(path, before)
        await database.ready()
    await database.close()


async def test_a_pool_follows_the_password_and_certificates_in_its_files(
    mounted: Mounted, front: TlsFront, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN_FILE", mounted.write(mounted.dsn()).removeprefix("file://"))
    monkeypatch.delenv("ANTIPHON_POSTGRES_DSN", raising=False)
    settings = load(PostgresSettings)
    assert settings.postgres_dsn == address_of(mounted.path)
    database = await Database.connect(view_dsn(settings.postgres_dsn), max_size=2)

    await execute(postgres_dsn, f"alter role {mounted.role} password '{NEW}'")
    async with database.transaction() as connection:  # one that is open goes on
        assert await connection.fetchval("select current_user") == mounted.role
    front.cut()
    await unready(database, "check user, password")
    put(mounted.path, b"")
    await unready(database, f"ANTIPHON_POSTGRES_DSN_FILE is '{mounted.path}': it is empty")
    mounted.write(mounted.dsn(NEW))
    await eventually(database.ready)

    renewed = Authority()
    renewed.issue(mounted.folder, "server")
    front.cut()
    await unready(database, "check sslrootcert")
    renewed.write(mounted.ca)
    Authority().write(mounted.client_ca, mounted.clients)  # a bundle of two
    mounted.clients.issue(mounted.folder, "client", common_name=mounted.role)
    await eventually(database.ready)
    await database.close()


async def test_leases_and_migrations_and_tools_read_the_file(
    mounted: Mounted, front: TlsFront, postgres_dsn: str
) -> None:
    address = mounted.write(mounted.dsn())
    await asyncio.to_thread(migrate, address)
    leases = Leases(address)
    holding = BackgroundTask(leases.run, name="leases")

    async def held() -> None:
        holding.check()
        try:
            await leases.check()
        except Exception as error:
            raise DatabaseUnavailable(str(error)) from error

    await eventually(held)
    await execute(postgres_dsn, f"alter role {mounted.role} password '{NEW}'")
    front.cut()
    mounted.write(mounted.dsn(NEW))
    await eventually(held)
    await holding.close()

    environment = libpq_environment(address)
    assert environment["PGPASSWORD"] == NEW
    assert environment["PGSSLMODE"] == "verify-full"
    assert environment["PGSSLROOTCERT"] == str(mounted.ca)
