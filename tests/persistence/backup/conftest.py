"""A site of its own, whose servers a test may lose with all their data, and the commands of an operator."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.persistence.conftest import Replica

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.stack.disk import MAX_STORE_BYTES
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.cli.stack.postgres_files import INSTALLED
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.migrations import migrate
from antiphon.persistence.settings import BackupSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

SECONDS = 120


async def spawn(nats_url: str, dsn: str, tools: Path, *arguments: str) -> Process:
    """Start a command of persistence."""
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": nats_url,
        "ANTIPHON_POSTGRES_DSN": dsn,
        "ANTIPHON_POSTGRES_BIN": str(tools),
    }
    command = (sys.executable, "-m", "antiphon.persistence", *arguments)
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)


class Site:
    """A NATS server and a Postgres server, and persistence on them."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.nats = NatsServer(folder / "nats", max_store_bytes=MAX_STORE_BYTES)
        self.postgres = Postgres(folder / "postgres")
        self.replicas: list[Replica] = []

    def start(self) -> None:
        """Start both servers, with an empty log."""
        self.nats.start()
        self.postgres.start()
        migrate(self.postgres.dsn)

    def lose_nats(self) -> None:
        """Kill NATS, delete its data, and start an empty one."""
        self.nats.kill()
        shutil.rmtree(self.nats.directory / "store")
        self.nats.start()

    def lose_postgres(self) -> None:
        """Kill Postgres, delete its data, and start an empty one."""
        self.postgres.kill()
        shutil.rmtree(self.postgres.data)
        self.postgres.start()

    def end(self) -> None:
        """Stop both servers."""
        self.nats.stop()
        self.postgres.stop()

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command of persistence; return its exit code and output."""
        process = await spawn(self.nats.url, self.postgres.dsn, INSTALLED / "bin", *arguments)
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        return process.returncode or 0, (out + err).decode()

    async def succeeds(self, *arguments: str) -> str:
        """Run a command that succeeds; return its output."""
        code, output = await self.run(*arguments)
        assert code == 0, output
        return output

    async def persistence(self) -> Replica:
        """Start `run`, and wait until it is ready."""
        replica = Replica(self.nats.url, self.postgres.dsn, self.log / f"run-{len(self.replicas)}.log")
        self.replicas.append(replica)
        await replica.start()
        await replica.until_ready(SECONDS)
        return replica

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[Bus]:
        """Connect to the broker."""
        bus = await Bus.connect(self.nats.url, name="test")
        try:
            yield bus
        finally:
            await bus.close()

    async def publish(self, envelopes: Iterable[Envelope]) -> None:
        """Publish events, and wait until they are on the disk."""
        async with self.bus() as bus:
            await bus.publish_many([outgoing(envelope) for envelope in envelopes])

    async def events(self, session_id: str) -> list[tuple[int, str]]:
        """Return the sequence and the id of each event of a session in the log."""
        query = "select sequence, event_id from event_log where session_id = $1 order by sequence"
        database = await Database.connect(self.postgres.dsn, max_size=1)
        try:
            return [(row[0], row[1]) for row in await database.pool.fetch(query, session_id)]
        finally:
            await database.close()

    async def until_committed(self, envelopes: list[Envelope], eventually: "Eventually") -> None:
        """Wait until the log has the events of a session, and no others, in this order."""
        wanted = [(number, envelope.id) for number, envelope in enumerate(envelopes, 1)]

        async def committed() -> bool:
            return await self.events(envelopes[0].subject) == wanted

        await eventually(committed, seconds=SECONDS)

    async def proves_the_log(self, backup: Path) -> None:
        """Verify the log, against the backup too, and all views."""
        output = await self.succeeds("verify", "--log", "--against", str(backup / "manifest.json"))
        assert "No difference." in output
        await self.succeeds("verify")


@pytest.fixture
def settings(nats_server: NatsServer, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> BackupSettings:
    """The settings of a backup of the servers of a test."""
    monkeypatch.setenv("ANTIPHON_NATS_URL", nats_server.url)
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", postgres_dsn)
    monkeypatch.setenv("ANTIPHON_POSTGRES_BIN", str(INSTALLED / "bin"))
    return BackupSettings()


@pytest.fixture
async def site(server_folder: Path, tmp_path: Path) -> AsyncIterator[Site]:
    """A site with persistence not running."""
    folder = server_folder / "site"
    folder.mkdir()
    site = Site(folder, tmp_path)
    try:
        site.start()
        async with site.bus() as bus:
            await bus.ensure()
        yield site
    finally:
        for replica in site.replicas:
            await replica.end(signal.SIGKILL)
        site.end()
        shutil.rmtree(folder)
