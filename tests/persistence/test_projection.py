"""The loop of a projection: rows and checkpoint commit atomically, an error affects only its view."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import Column, MetaData, Table, Text

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log import Log
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence import run
from antiphon.persistence.errors import Fenced, NotReady
from antiphon.persistence.projection import Projection, Rows, ViewTable
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.projections.turns import TURN
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.settings import PersistenceSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
        SampleSession,
    )

REFUSED = "refused"


class IdProjection:
    """A projection that writes the ids of its events, and fails in Postgres while `fails` is set."""

    def __init__(self, name: str) -> None:
        key = [Column("session_id", Text, primary_key=True), Column("id", Text, primary_key=True)]
        table = Table(name, MetaData(), *key)
        self.table = ViewTable(table)
        self.definition = Projection(name, self.table)
        self.definition.on_any(self.add)
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        self.fails = False
        self.failures = 0

    def add(self, envelope: Envelope, rows: Rows) -> None:
        rows(self.table, envelope.subject, envelope.id)
        if self.fails:
            self.failures += 1
            rows(self.table, envelope.subject, REFUSED)

    async def failed_twice(self) -> bool:
        return self.failures >= 2

    async def ready(self) -> bool:
        return not await self.reason()

    async def reason(self) -> str:
        try:
            await self.readiness.check()
        except NotReady as error:
            return str(error)
        return ""


class Loops:
    """Projection loops in the test's own event loop."""

    def __init__(self, bus: Bus, database: Database, eventually: Callable[..., Awaitable[None]]) -> None:
        self.eventually = eventually
        self._bus = bus
        self._database = database
        self._tasks: list[asyncio.Future[list[None]]] = []
        self._projections: list[IdProjection] = []

    async def start(self, projection: IdProjection) -> asyncio.Future[list[None]]:
        await create_table(self._database.pool, projection)
        log = Log(self._database, self._bus)
        loop = ProjectionLoop(projection.definition, self._database, log, projection.readiness)
        held = [loop.hold(number, projection.stop) for number in range(PARTITIONS)]
        self._tasks.append(asyncio.ensure_future(asyncio.gather(loop.run(projection.stop), *held)))
        self._projections.append(projection)
        return self._tasks[-1]

    async def end(self) -> None:
        for projection in self._projections:
            projection.stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 20)

    async def ids(self, projection: IdProjection) -> list[str]:
        rows = await self._database.pool.fetch(f"select id from {projection.definition.name}")
        return [row["id"] for row in rows]

    async def until_ids(self, projection: IdProjection, ids: list[str]) -> None:
        """Wait until the view holds these ids."""

        async def reached() -> bool:
            return await self.ids(projection) == ids

        await self.eventually(reached)

    async def until_ready(self, projection: IdProjection) -> None:
        """Wait until the loop is ready: its rows are visible before it has seen the answer to its commit."""

        async def ready() -> bool:
            return not await projection.reason()

        await self.eventually(ready)

    async def until_count(self, projection: IdProjection, count: int) -> None:
        """Wait until the view holds `count` ids."""

        async def reached() -> bool:
            return len(await self.ids(projection)) == count

        await self.eventually(reached)


@pytest.fixture
async def loops(bus: Bus, database: Database, eventually: "Eventually") -> AsyncIterator[Loops]:
    loops = Loops(bus, database, eventually)
    yield loops
    await loops.end()


async def test_history_comes_first_and_then_new_events(
    loops: Loops,
    ingest: "RunningIngest",
    publish: "Publish",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("history")
    ingest.start(session.partition)
    await publish([session.requested(), session.turn(1)])
    await event_log.until(2)
    projection = IdProjection("history")
    await loops.start(projection)
    await publish([session.turn(2)])

    await loops.until_ids(projection, [event for _, event in await _log(event_log, session, 3)])
    await loops.until_ready(projection)


async def test_a_restart_continues_from_the_checkpoint(
    loops: Loops,
    ingest: "RunningIngest",
    publish: "Publish",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("continues")
    ingest.start(session.partition)
    await publish([session.requested()])
    projection = IdProjection("continues")
    await loops.start(projection)
    await loops.until_count(projection, 1)
    await loops.end()

    await publish([session.turn(1)])
    projection.stop = asyncio.Event()
    await loops.start(projection)
    await loops.until_ids(projection, [event for _, event in await _log(event_log, session, 2)])


async def test_a_failing_projection_is_unready_and_does_not_affect_the_others(
    loops: Loops,
    ingest: "RunningIngest",
    publish: "Publish",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("fails")
    ingest.start(session.partition)
    broken, healthy = IdProjection("broken"), IdProjection("healthy")
    broken.fails = True
    await loops.start(broken)
    await loops.start(healthy)
    await publish([session.requested(), session.turn(1)])

    ids = [event for _, event in await _log(event_log, session, 2)]
    await loops.until_ids(healthy, ids)
    await loops.eventually(broken.failed_twice)

    async def reported() -> bool:
        return "CheckViolation" in await broken.reason()

    await loops.eventually(reported)
    await loops.until_ready(healthy)
    assert await loops.ids(broken) == []  # rows and checkpoint commit atomically

    broken.fails = False
    await loops.until_ids(broken, ids)
    await loops.eventually(broken.ready)


async def test_a_projection_advanced_by_another_writer_is_fenced(
    loops: Loops,
    ingest: "RunningIngest",
    publish: "Publish",
    event_log: "LogReader",
    new_session: "NewSession",
    database: Database,
) -> None:
    session = new_session("fenced")
    ingest.start(session.partition)
    await publish([session.requested()])
    projection = IdProjection("fenced")
    task = await loops.start(projection)
    await loops.until_count(projection, 1)

    await database.pool.execute("update projection_checkpoints set position = position + 100")
    await publish([session.turn(1)])

    with pytest.raises(Fenced):
        await asyncio.wait_for(task, 15)
    assert len(await loops.ids(projection)) == 1


async def _log(event_log: "LogReader", session: "SampleSession", count: int) -> list[tuple[int, str]]:
    await event_log.until(count)
    return await event_log.events(session.session_id)


async def test_work_lost_in_a_crash_of_postgres_is_projected_again(
    loops: Loops,
    ingest: "RunningIngest",
    publish: "Publish",
    new_session: "NewSession",
    postgres_dsn: str,
    eventually: "Eventually",
) -> None:
    """A view does not wait for fsync, so it may lose its last writes, even if no event follows."""
    session = new_session("crash")
    ingest.start(session.partition)
    projection = IdProjection("crash")
    await loops.start(projection)
    await publish([session.requested(), session.turn(1)])
    await loops.until_count(projection, 2)

    await _as_after_a_crash(postgres_dsn)
    await loops.until_count(projection, 2)
    await eventually(projection.ready)


async def _as_after_a_crash(dsn: str) -> None:
    """Undo the last commits, rows and checkpoint, and close every connection."""
    crash = await asyncpg.connect(dsn)
    async with crash.transaction():
        await crash.execute("delete from crash")
        await crash.execute("update projection_checkpoints set position = 0")
    await crash.execute("""
        select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
    """)
    await crash.close()


async def test_a_projection_is_ready_again_after_a_passing_read_error_without_new_events(
    loops: Loops, database: Database
) -> None:
    projection = IdProjection("passing")
    await loops.start(projection)
    await loops.eventually(projection.ready)

    await database.pool.execute("alter table event_log rename to hidden")

    async def failed() -> bool:
        return "UndefinedTable" in await projection.reason()

    await loops.eventually(failed)
    await database.pool.execute("alter table hidden rename to event_log")
    await loops.eventually(projection.ready)


async def test_six_projections_of_one_process_make_progress(
    bus: Bus,
    database: Database,
    publish: "Publish",
    postgres_dsn: str,
    nats_server: NatsServer,
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
    eventually: "Eventually",
) -> None:
    planted = [IdProjection(f"planted_{n}") for n in range(6)]
    monkeypatch.setattr(run, "PROJECTIONS", tuple(projection.definition for projection in planted))
    for projection in planted:
        await create_table(database.pool, projection)
    settings = PersistenceSettings(
        postgres_dsn=postgres_dsn, nats_url=nats_server.url, health_port=free_port()
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(run.run(settings, stop))
    session = new_session("planted")
    await publish([session.requested(), session.turn(1)])

    async def all_projected() -> bool:
        counts = [
            await database.pool.fetchval(f"select count(*) from {projection.definition.name}")
            for projection in planted
        ]
        return counts == [2] * 6

    await eventually(all_projected, seconds=60)
    stop.set()
    await asyncio.wait_for(serving, 30)


async def test_a_projection_waits_for_a_connection_and_recovers(
    bus: Bus,
    postgres_dsn: str,
    ingest: "RunningIngest",
    publish: "Publish",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    small = await Database.connect(postgres_dsn, max_size=2, acquire_timeout_seconds=0.5)
    loops = Loops(bus, small, eventually)
    projection = IdProjection("waits")
    async with small.pool.acquire(), small.pool.acquire():
        connection = await asyncpg.connect(postgres_dsn)
        await create_table(connection, projection)
        await connection.close()
        loop = ProjectionLoop(projection.definition, small, Log(small, bus), projection.readiness)
        held = [loop.hold(number, projection.stop) for number in range(PARTITIONS)]
        task = asyncio.ensure_future(asyncio.gather(loop.run(projection.stop), *held))

        async def exhausted() -> bool:
            return "all 2 connections were in use" in await projection.reason()

        await eventually(exhausted, seconds=60)
        with pytest.raises(DatabaseUnavailable, match="in use"):
            await small.ready()

    session = new_session("waits")
    ingest.start(session.partition)
    await publish([session.requested()])
    await loops.until_count(projection, 1)
    await eventually(projection.ready)
    projection.stop.set()
    await asyncio.wait_for(task, 20)
    await small.close()


async def create_table(connection: Any, projection: IdProjection) -> None:
    """Create the view of a projection, as a build of it would."""
    name = projection.definition.name
    await connection.execute(
        f"create table if not exists {name} (session_id text, id text check (id <> '{REFUSED}'),"
        " primary key (session_id, id))"
    )
    await connection.execute("insert into projections values ($1, 1, array[$1]) on conflict do nothing", name)


async def test_cached_rows_are_bounded_in_bytes(new_session: "NewSession") -> None:
    cache = Cache(max_bytes=20_000)
    session = new_session("cached")
    record = {"session_id": session.session_id, "epoch": "", "turn": 1, "user_text": "x" * 1_000}
    columns = dict.fromkeys(TURN.columns) | {"tool_call_ids": "[]", "metrics": "{}"}

    def put(turn: int, text: str) -> None:
        key = (session.session_id, "", turn)
        cache.put(TURN, [key], [columns | record | {"turn": turn, "user_text": text}])

    for number in range(1, 6):
        put(number, "x" * 1_000)
        cache.trim([session.turn(number)])
    assert len(cache) == 5
    assert 10_000 < cache.bytes < 15_000

    put(6, "x" * 20_000)
    cache.trim([])
    assert (len(cache), cache.bytes) == (0, 0)


async def test_events_folded_into_a_cached_row_count(new_session: "NewSession") -> None:
    cache = Cache(max_bytes=10_000)
    session = new_session("folded")
    cache.of(TURN).rows[session.session_id, "", 1] = {}
    cache.trim([session.turn(1, "x" * 6_000)])
    assert len(cache)
    cache.trim([session.turn(2, "x" * 6_000)])

    assert not len(cache)
