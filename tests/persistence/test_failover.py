"""Postgres comes back with an earlier state, as after a fail-over to an asynchronous replica."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.migrations import migrate

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, Replicas

pytestmark = pytest.mark.slow

SESSIONS = 24
SECONDS = 60.0


class Standby:
    """A Postgres server with an older copy of its data, which takes its place."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._older = server.directory / "older"

    def copy(self) -> None:
        """Copy the data as it is now."""
        self.server.stop()
        subprocess.run(["cp", "-a", self.server.data, self._older], check=True)
        self.server.start()

    def take_over(self) -> None:
        """Run with the copy in place of the data: what was committed since is lost."""
        self.server.stop()
        shutil.rmtree(self.server.data)
        self._older.rename(self.server.data)
        self.server.start()


@pytest.fixture
def standby(server_folder: Path) -> Iterator[Standby]:
    server = Postgres(server_folder / "fails-over")
    server.start()
    migrate(server.dsn)
    yield Standby(server)
    server.stop()
    shutil.rmtree(server.directory)


async def test_what_a_failover_lost_is_committed_again_without_new_events(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    standby: Standby,
    event_log_of: "type[LogReader]",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    sessions = [new_session(f"failover {n}") for n in range(SESSIONS)]
    calls = [[session.turn(n) for n in range(1, 11)] for session in sessions]
    persistence = replica()
    persistence.environment["ANTIPHON_POSTGRES_DSN"] = standby.server.dsn
    await persistence.start()
    database = await Database.connect(standby.server.dsn, name="test", min_size=0)
    event_log = event_log_of(database)
    await publish(envelope for call in calls for envelope in call[:4])
    await event_log.until(4 * SESSIONS, SECONDS)
    standby.copy()
    await publish(envelope for call in calls for envelope in call[4:])
    await event_log.until(10 * SESSIONS, SECONDS)

    async def projected() -> bool:
        turns = await database.pool.fetchval("select count(*) from turns")
        folded = await database.pool.fetchval("select coalesce(sum(sequence), 0) from sessions")
        return (turns, folded) == (10 * SESSIONS, 10 * SESSIONS)

    await eventually(projected, SECONDS)
    standby.take_over()

    await event_log.until(10 * SESSIONS, SECONDS)
    for session, call in zip(sessions, calls, strict=True):
        assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert await event_log.dead_letters() == []
    await eventually(projected, SECONDS)
    await persistence.until_ready(SECONDS)
    await database.close()
