"""A long log is folded by several processes; whatever happens to them, the view is whole."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from itertools import islice
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs
from tests.benchmarks.history import calls

from antiphon.chassis.database import Database
from antiphon.persistence.projection import Projection
from antiphon.persistence.projections.daily import DAILY
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import build as build_module
from antiphon.persistence.rebuild import processes, shadow
from antiphon.persistence.rebuild.build import build

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import Eventually

_WORKERS = "select pid from pg_stat_activity where application_name ~ '^persistence rebuild turns [0-9]+$'"


@pytest.fixture(autouse=True)
async def processes_for_a_short_log(monkeypatch: pytest.MonkeyPatch, filled: "FilledLog") -> None:
    """Fold with processes, however short the log is."""
    monkeypatch.setattr(build_module, "EVENTS_WORTH_PROCESSES", 1)
    await filled.put(calls(50))


@pytest.mark.parametrize("projection", [SESSIONS, DAILY, TIMELINE], ids=lambda projection: projection.name)
async def test_a_view_is_the_same_by_one_process_and_by_two(
    projection: Projection, database: Database, postgres_dsn: str
) -> None:
    await build(postgres_dsn, database, projection)
    alone = await _rows(database, projection)
    seen: list[float] = []
    with capture_logs() as logs:
        await build(postgres_dsn, database, projection, jobs=2, on_progress=lambda _, done: seen.append(done))

    assert await _rows(database, projection) == alone
    assert all(alone)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert [log for log in logs if log["log_level"] != "info"] == []


async def _rows(database: Database, projection: Projection) -> list[list[asyncpg.Record]]:
    return [
        await database.pool.fetch(f"select * from {table.name} order by {', '.join(table.key)}")
        for table in projection.tables
    ]


async def test_when_a_process_is_killed_the_caller_folds_the_rest(
    monkeypatch: pytest.MonkeyPatch, database: Database, postgres_dsn: str
) -> None:
    kill = (
        "import os, signal, threading;"
        " threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGKILL)).start();"
        " import time; time.sleep(60)"
    )
    await _fails(monkeypatch, database, postgres_dsn, kill, f"ended with {-signal.SIGKILL}")


async def test_when_a_process_fails_the_caller_folds_the_rest(
    monkeypatch: pytest.MonkeyPatch, database: Database, postgres_dsn: str
) -> None:
    await _fails(monkeypatch, database, postgres_dsn, "raise SystemExit(3)", "ended with 3")


async def test_a_process_of_other_code_folds_nothing(
    monkeypatch: pytest.MonkeyPatch, database: Database, postgres_dsn: str
) -> None:
    """An upgrade may replace the code on disk while a view is built."""
    monkeypatch.setattr(shadow, "fingerprint", lambda _: "of the code before")
    with capture_logs() as logs:
        await build(postgres_dsn, database, TURNS, jobs=2)

    [failed] = [log for log in logs if log["event"] == "rebuild.process_failed"]
    assert any("ended with 1" in reason for reason in failed["reasons"])
    assert await database.pool.fetchval("select count(*) from turns") == 300


async def test_the_part_that_is_done_never_shrinks(
    filled: "FilledLog", database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "EVENTS_WORTH_PROCESSES", 1_000_000)
    more = islice(calls(2_000), 5_000, None)
    seen: list[float] = []
    index = shadow.index

    async def index_while_the_log_grows(*arguments: Any) -> None:
        await filled.put(islice(more, 5_000))
        await index(*arguments)

    monkeypatch.setattr(shadow, "index", index_while_the_log_grows)
    await build(postgres_dsn, database, TURNS, on_progress=lambda _, done: seen.append(done))

    assert seen == sorted(seen)
    assert seen[-1] == 1.0


async def test_a_log_is_long_by_its_events(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def fold_in_processes(*arguments: object) -> None:
        asked.append(arguments)

    monkeypatch.setattr(build_module, "fold_in_processes", fold_in_processes)
    events = await database.pool.fetchval("select count(*) from event_log")
    for worth in (events + 100, events - 100):  # of 4,550, in 16 partitions
        monkeypatch.setattr(build_module, "EVENTS_WORTH_PROCESSES", worth)
        await build(postgres_dsn, database, TURNS, jobs=2)

    assert len(asked) == 1


async def test_when_a_process_hangs_it_is_ended_and_the_caller_folds_the_rest(
    monkeypatch: pytest.MonkeyPatch, database: Database, postgres_dsn: str
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.5)
    monkeypatch.setattr(processes, "END_SECONDS", 0.5)
    hangs = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    await _fails(monkeypatch, database, postgres_dsn, hangs, "has reported nothing for 0 s")


async def _fails(
    monkeypatch: pytest.MonkeyPatch, database: Database, dsn: str, source: str, reason: str
) -> None:
    monkeypatch.setattr(processes, "WORKER", (sys.executable, "-c", source))
    with capture_logs() as logs:
        await asyncio.wait_for(build(dsn, database, TURNS, jobs=2), 60)

    [failed] = [log for log in logs if log["event"] == "rebuild.process_failed"]
    assert any(reason in found for found in failed["reasons"])
    assert await database.pool.fetchval("select count(*) from turns") == 300


async def test_processes_end_with_a_rebuild_that_is_killed_and_the_next_one_goes_on(
    database: Database, postgres_dsn: str, eventually: "Eventually"
) -> None:
    command = (sys.executable, "-c", _STOPS, postgres_dsn)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"folding\n"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()

    async def ended() -> bool:
        return not await database.pool.fetch(_WORKERS)

    await eventually(ended)
    await build(postgres_dsn, database, TURNS, jobs=2)
    assert await database.pool.fetchval("select count(*) from turns") == 300


_STOPS = """
import asyncio, sys
from antiphon.chassis.database import Database
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import build

def on_progress(events, done):
    print("folding", flush=True)

async def main():
    build.EVENTS_WORTH_PROCESSES = 1
    database = await Database.connect(sys.argv[1])
    await build.build(sys.argv[1], database, TURNS, jobs=2, on_progress=on_progress)

asyncio.run(main())
"""


async def test_processes_end_with_a_rebuild_that_is_cancelled(
    database: Database, postgres_dsn: str, eventually: "Eventually"
) -> None:
    begun = asyncio.Event()
    building = asyncio.create_task(
        build(postgres_dsn, database, TURNS, jobs=2, on_progress=lambda _, __: begun.set())
    )
    await asyncio.wait_for(begun.wait(), 60)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    async def ended() -> bool:
        return not await database.pool.fetch(_WORKERS)

    await eventually(ended)
