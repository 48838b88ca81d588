"""A rebuilt view equals the live one; readers, writers and operators notice nothing of it."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import Integer, Table

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.projection import Projection, Rows, ViewTable, required, views
from antiphon.persistence.projection.declaration import EventFailed
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.attached import InUse
from antiphon.persistence.rebuild.build import BuildInProgress, build, locked
from antiphon.persistence.rebuild.upgrade import build_missing, live_version

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import Eventually, NewSession
    from tests.persistence.rebuild.conftest import Live
    from tests.persistence.rebuild.conftest import Rows as ReadRows


def calls(new_session: "NewSession", first: int, count: int) -> list[Envelope]:
    return [
        envelope
        for number in range(first, first + count)
        for envelope in new_session(f"call {number}").whole_call()
    ]


async def test_readers_see_the_whole_view_while_it_is_rebuilt(
    live: "Live",
    filled: "FilledLog",
    rows: "ReadRows",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    await filled.put(calls(new_session, 0, 200))
    live.start(SESSIONS, TURNS)

    async def caught_up() -> bool:
        behind = await database.pool.fetchval("select count(*) from turns")
        return bool(behind == 600 + 3 * more)

    more = 0
    await eventually(caught_up)
    seen: list[int] = []
    reading = asyncio.create_task(_read_in_a_loop(postgres_dsn, seen))
    building = asyncio.gather(build(postgres_dsn, database, TURNS), build(postgres_dsn, database, SESSIONS))
    while not building.done():
        await filled.put(calls(new_session, 200 + more, 1))
        more += 1
        await asyncio.sleep(0.01)
    await building
    await eventually(caught_up)
    reading.cancel()

    assert seen
    assert seen == sorted(seen)  # neither empty, nor half, nor older
    assert min(seen) >= 600

    async def all_sessions() -> bool:
        whole = await database.pool.fetchval("select count(*) from sessions where turns = 3")
        return bool(whole == 200 + more)

    await eventually(all_sessions)
    async with database.pool.acquire() as connection:
        assert await shadow.read(connection, "turns") is None


async def _read_in_a_loop(dsn: str, seen: list[int]) -> None:
    reader = await Database.connect(dsn, max_size=1)
    try:
        while True:
            seen.append(await reader.pool.fetchval("select count(*) from turns"))
            await asyncio.sleep(0)
    finally:
        await reader.close()


async def test_a_rebuild_restores_rows_that_were_lost_or_changed(
    live: "Live",
    filled: "FilledLog",
    rows: "ReadRows",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
) -> None:
    await filled.put(calls(new_session, 0, 20))
    await build(postgres_dsn, database, TURNS)
    expected = await rows("turns")
    await database.pool.execute("update turns set user_text = 'changed' where turn = 2")
    await database.pool.execute("delete from turns where turn = 3")

    await build(postgres_dsn, database, TURNS)

    assert len(expected) == 60
    assert await rows("turns") == expected


async def test_a_killed_rebuild_goes_on_where_it_was(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    await filled.put(calls(new_session, 0, 400))
    command = (sys.executable, "-c", _STOPS_IN_THE_MIDDLE, postgres_dsn)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    output, _ = await process.communicate()
    assert output == b"killing\n"
    async with locked(postgres_dsn, "turns") as connection:
        assert (await shadow.read(connection, "turns")) is not None
    folded = 0

    def on_progress(events: int, _: float) -> None:
        nonlocal folded
        folded += events

    await build(postgres_dsn, database, TURNS, on_progress=on_progress)

    assert await database.pool.fetchval("select count(*) from turns") == 1200
    assert 0 < folded < 1200


_STOPS_IN_THE_MIDDLE = """
import asyncio, os, signal, sys
from antiphon.chassis.database import Database
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import build, fold

def on_progress(events, done):
    if done > 0.5:
        print("killing", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    fold.PAGE = fold.BATCH = 64
    database = await Database.connect(sys.argv[1])
    await build.build(sys.argv[1], database, TURNS, on_progress=on_progress)

asyncio.run(main())
"""


async def test_a_second_rebuild_is_refused_and_told_who_runs_the_first(
    database: Database, postgres_dsn: str
) -> None:
    async with locked(postgres_dsn, "turns"):
        with pytest.raises(BuildInProgress, match=r"persistence rebuild turns .*backend"):
            await build(postgres_dsn, database, TURNS)
        await build(postgres_dsn, database, SESSIONS)


async def test_privileges_stay_and_a_dependent_view_is_named(
    database: Database, postgres_dsn: str, filled: "FilledLog", new_session: "NewSession"
) -> None:
    role = f"analyst_{postgres_dsn.rpartition('_')[2]}"
    await database.pool.execute(f"create role {role}")
    try:
        await database.pool.execute(f"grant select on turns to {role}")
        await database.pool.execute("create view longest as select * from turns")
        with pytest.raises(InUse, match="longest depends on turns"):
            await build(postgres_dsn, database, TURNS)
        await database.pool.execute("drop view longest")
        await build(postgres_dsn, database, TURNS)

        assert await database.pool.fetchval("select has_table_privilege($1, 'turns', 'select')", role)
    finally:
        await database.pool.execute(f"drop owned by {role}")
        await database.pool.execute(f"drop role {role}")


class Counting:
    """A projection of a name of its own: counts the saved turns of each session, times its version."""

    def __init__(self, name: str, version: int) -> None:
        views.remove(views.tables[name]) if name in views.tables else None
        table = Table(
            name, views, required("session_id", _text(), primary_key=True), required("n", Integer, default=0)
        )
        self.table = ViewTable(table)
        self.projection = Projection(name, self.table, version=version)
        self.version = version
        self.fails = False
        self.projection.on(TurnSaved)(self.count)
        views.remove(table)

    def count(self, event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
        if self.fails:
            raise RuntimeError("the third version is wrong")
        row = rows(self.table, envelope.subject)
        row["n"] += self.version


def _text() -> Any:
    from antiphon.persistence.projection import Name

    return Name


async def test_a_new_version_is_built_beside_the_live_one_and_the_old_code_lets_go(
    live: "Live",
    filled: "FilledLog",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    old, new = Counting("counting", 1), Counting("counting", 2)
    readiness, stop = ReadinessCheck(), asyncio.Event()
    await filled.put(calls(new_session, 0, 10))
    live.start(old.projection, new.projection)  # both versions run side by side
    await build_missing(postgres_dsn, database, [old.projection], readiness, stop)
    assert await live_version(database, old.projection) == 1

    async def counts(number: int, version: int) -> bool:
        found = await database.pool.fetch("select n from counting")
        return [row["n"] for row in found] == [3 * version] * number

    await eventually(lambda: counts(10, 1))
    await build_missing(postgres_dsn, database, [new.projection], readiness, stop)
    assert await live_version(database, new.projection) == 2
    await filled.put(calls(new_session, 10, 10))
    await eventually(lambda: counts(20, 2))

    await build_missing(postgres_dsn, database, [old.projection], readiness, stop)
    assert await live_version(database, new.projection) == 2


async def test_a_new_version_that_fails_leaves_the_live_view_as_it_is(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    old, new = Counting("failing", 1), Counting("failing", 3)
    await filled.put(calls(new_session, 0, 3))
    await build(postgres_dsn, database, old.projection)
    new.fails = True
    with pytest.raises(EventFailed, match=r"turn\.saved .*RuntimeError") as failed:
        await build(postgres_dsn, database, new.projection)
    assert "the third version is wrong" in str(failed.value.__cause__)
    assert await live_version(database, old.projection) == 1

    new.fails = False
    await build(postgres_dsn, database, new.projection)
    assert await database.pool.fetchval("select sum(n) from failing") == 3 * 3 * 3


async def test_other_code_does_not_go_on_with_what_a_build_has_left(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    first, second = Counting("changed", 1), Counting("changed", 1)
    second.projection._handlers[TurnSaved.TYPE] = lambda event, envelope, rows: rows(
        second.table, envelope.subject
    ).update(n=7)
    await filled.put(calls(new_session, 0, 3))
    async with locked(postgres_dsn, "changed") as connection:
        await shadow.create(connection, first.projection, "a test")
        await connection.execute("insert into rebuild_changed.changed values ('left', 1)")

    await build(postgres_dsn, database, second.projection)

    assert [row["n"] for row in await database.pool.fetch("select n from changed")] == [7] * 3


async def test_a_writer_that_was_stopped_during_the_swap_is_fenced(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    await filled.put(calls(new_session, 0, 3))
    await build(postgres_dsn, database, TURNS)
    [(epoch, position)] = await database.pool.fetch(
        "select epoch, position from projection_checkpoints where projection = 'turns' and partition = 1"
    )
    await build(postgres_dsn, database, TURNS)

    with pytest.raises(asyncpg.PostgresError, match="another writer") as raised:
        await database.pool.execute(
            "select advance_view('turns', '{1}', $1::bigint[], $2::bigint[], $2::bigint[])",
            [epoch],
            [position],
        )
    assert raised.value.detail == "1"
