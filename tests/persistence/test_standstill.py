"""A view whose checkpoint stands still is not ready, whatever it waits for; one that another keeps up is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text
from tests.fixtures.filled_log import FilledLog
from tests.persistence.held_loop import hold_all

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.errors import Fenced, NotReady
from antiphon.persistence.leases.locks import lease_name, projection_group
from antiphon.persistence.metrics import projection_lag
from antiphon.persistence.projection import Projection, Rows, ViewTable, standstill
from antiphon.persistence.projection import loop as loop_module
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import build

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, NewSession


def counted(version: int) -> Projection:
    """Return a view that counts the turns of each session, times its version."""
    columns = Column("session_id", Text, primary_key=True), Column("turns", Integer, default=0)
    table = ViewTable(Table("counted", MetaData(), *columns))
    projection = Projection("counted", table, version=version)

    @projection.on(TurnSaved)
    def count(event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
        rows(table, envelope.subject)["turns"] += version

    return projection


class Running:
    """A loop that holds all partitions, and its readiness."""

    def __init__(self, projection: Projection, bus: Bus, database: Database) -> None:
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        loop = ProjectionLoop(projection, database, Log(database, bus), self.readiness)
        self.tasks = hold_all(loop, self.stop)

    async def reason(self) -> str:
        try:
            await self.readiness.check()
        except NotReady as error:
            return str(error)
        return ""

    def says(self, words: str) -> "Callable[[], object]":
        async def check() -> bool:
            found = await self.reason()
            return words in found if words else not found

        return check


@asynccontextmanager
async def running(projection: Projection, bus: Bus, database: Database) -> AsyncIterator[Running]:
    started = Running(projection, bus, database)
    try:
        yield started
    finally:
        started.stop.set()
        await asyncio.wait_for(asyncio.gather(*started.tasks), 60)


@asynccontextmanager
async def locked(dsn: str, table: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"lock table {table} in access exclusive mode")
            yield
    finally:
        await connection.close()


@pytest.mark.parametrize("table", ["event_log", "counted", "projection_checkpoints"])
async def test_a_view_that_waits_for_a_lock_is_not_ready_before_its_statement_ends(
    table: str,
    bus: Bus,
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standstill, "STANDSTILL_SECONDS", 1.0)
    await build(postgres_dsn, database, counted(1))
    async with running(counted(1), bus, database) as view:
        await eventually(view.says(""))
        session = new_session("waits")
        await FilledLog(database).put([session.requested(), session.turn(1)])
        async with locked(postgres_dsn, table):
            await eventually(view.says("stands still: nothing was read or written"))
            lags = [lag for (name, _), lag in projection_lag.series() if name == "counted"]
            assert max(lags) > 0 or table == "event_log"  # what cannot be read is not known
        await eventually(view.says(""))

        async def folded() -> bool:
            turns: int = await database.pool.fetchval("select sum(turns) from counted")
            return turns == 1

        await eventually(folded)


async def test_a_view_that_cannot_read_the_log_names_the_error(
    bus: Bus, database: Database, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await build(postgres_dsn, database, counted(1))
    impatient = await Database.connect(postgres_dsn, max_size=4, statement_timeout_seconds=1.0)
    try:
        async with running(counted(1), bus, impatient) as view:
            await eventually(view.says(""))
            async with locked(postgres_dsn, "event_log"):
                await eventually(view.says("projection counted cannot read the log: "))
            await eventually(view.says(""))
    finally:
        await impatient.close()


async def test_a_view_of_a_later_version_that_nobody_runs_is_not_ready(
    bus: Bus,
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A release was rolled back: the code that built the live view is gone."""
    monkeypatch.setattr(standstill, "STANDSTILL_SECONDS", 1.0)
    await build(postgres_dsn, database, counted(2))
    async with running(counted(1), bus, database) as old:
        await eventually(old.says(""))  # the view is complete
        session = new_session("after the rollback")
        await FilledLog(database).put([session.requested(), session.turn(1)])
        await eventually(
            old.says(f"stands still in partitions {session.partition}: the live view has version 2")
        )
        assert "`persistence rebuild counted --downgrade`" in await old.reason()

        # A replica of the later version: it holds the lease, so its own readiness tells of the view.
        connection = await asyncpg.connect(postgres_dsn)
        lease = lease_name(projection_group("counted", 2), session.partition)
        await connection.execute("select pg_advisory_lock(hashtextextended($1, 0))", lease)
        await eventually(old.says(""))
        await connection.close()
        await eventually(old.says("which no replica runs"))

        async with running(counted(2), bus, database) as new:
            await eventually(new.says(""))
            await eventually(old.says(""))  # nothing is left to fold


async def test_a_view_of_an_earlier_version_waits_for_its_build(
    bus: Bus, database: Database, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await build(postgres_dsn, database, counted(1))
    async with running(counted(2), bus, database) as view:
        await eventually(view.says("waits for the build of version 2: the live view has version 1"))
        await build(postgres_dsn, database, counted(2))
        await eventually(view.says(""))


async def test_a_partition_that_is_taken_over_during_the_last_batch_ends_with_the_others(
    bus: Bus,
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stop waits for the batch, and the batch finds that another process writes the partition."""
    projection = counted(1)
    await build(postgres_dsn, database, projection)
    session = new_session("taken over")
    running = Running(projection, bus, database)

    async def taken_over(*_: object) -> None:
        running.stop.set()
        await asyncio.sleep(0.1)  # the partitions wait for this batch now
        raise Fenced("another process writes it", [session.partition])

    monkeypatch.setattr(loop_module, "apply", taken_over)
    await FilledLog(database).put([session.turn(1)])

    await asyncio.wait_for(asyncio.gather(*running.tasks), 20)
