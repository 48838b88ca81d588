"""Real servers for every test that needs one: started once, on free ports, emptied before each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest
from tests.fixtures.broker import erase
from tests.fixtures.template_database import clone_template

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres

TEMPLATE = "antiphon_template"


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server with JetStream; a test may stop, kill and start it."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connected bus: streams, consumers and buckets are new and empty."""
    if not _runs(nats_server):
        nats_server.start()  # the test before has left it stopped
    bus = await Bus.connect(nats_server.url, name="test")
    await erase(bus)
    await bus.ensure()
    yield bus
    await bus.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A Postgres server; a test may stop, kill and start it."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_server: Postgres) -> str:
    """The name of a migrated, empty database, made once."""
    from antiphon.persistence.migrations import migrate

    asyncio.run(_execute(postgres_server, f'create database "{TEMPLATE}"'))
    migrate(postgres_server.dsn_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def postgres_dsn(postgres_server: Postgres, template_database: str) -> AsyncIterator[str]:
    """The address of a database of this test's own, migrated and empty."""
    if not _runs(postgres_server):
        postgres_server.start()  # the test before has left it stopped
    name = f"test_{os.getpid()}_{uuid4().hex[:12]}"
    await clone_template(postgres_server.dsn_of("postgres"), template_database, name)
    yield postgres_server.dsn_of(name)
    if _runs(postgres_server):
        await _execute(postgres_server, f'drop database "{name}" with (force)')


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A connected database of this test's own, migrated and empty."""
    database = await Database.connect(postgres_dsn, min_size=0, max_size=8)
    yield database
    await database.close()


def _runs(server: NatsServer | Postgres) -> bool:
    return server.process is not None and server.process.poll() is None


async def _execute(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn_of("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
