"""Growth: the same figures with 10^5, 10^6 and, if BENCH_EVENTS is 5000000, 5 * 10^6 events in the log.

A part of the log is committed as ingest does; the rest are copies of it under other sessions, made by SQL.
"""

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from statistics import median

import psutil
from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import PARTITIONS, partition_of

from .history import TENANT, calls
from .persistence import command, running
from .report import Report, Result, Servers

SIZES = (100_000, 1_000_000, 5_000_000)
DEFAULT_EVENTS = 1_000_000
CALLS = 600  # about 55,000 events, which are copied
VIEW = "turns"
COMMITTED_CALLS = 150  # of each measurement of ingest
READ_EVENTS = 100_000
REPEATS = 40
MIB = 1 << 20

# Each copy of a call keeps its events; their ids begin with the session.
_COPY = """
insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                       occurred_at, envelope, committed_at)
select copy.session_id, sequence, copy.partition, position + $4, tenant,
       replace(event_id, original, copy.session_id), type, version, occurred_at,
       replace(envelope::text, original, copy.session_id)::json, committed_at
  from unnest($1::text[], $2::text[], $3::smallint[]) as copy (original, session_id, partition)
  join event_log on event_log.session_id = original
"""
_NEWEST = "select max(position) from event_log"
_REACHED = """
update checkpoints set position = $1, chain = null, chained_after = null where name like 'ingest:%'
"""


async def run(servers: Servers, report: Report) -> None:
    """Fill the log to each size in turn, and measure."""
    largest = int(os.environ.get("BENCH_EVENTS", DEFAULT_EVENTS))
    sizes = [size for size in SIZES if size <= largest] or [largest]
    database = await Database.connect(servers.dsn, max_size=6, statement_timeout_seconds=300)
    first: dict[str, float] = {}
    try:
        report.step(f"commit {CALLS} calls", seconds=180)
        await FilledLog(database).put(calls(CALLS))
        copies = _Copies(database, await _count(database))
        for number, size in enumerate(sizes):
            report.step(f"fill the log to {size} events", seconds=60 + size / 2_000)
            await copies.fill(size)
            for name, unit, value in await _figures(servers, report, database, size, number):
                baseline = first.setdefault(name, value)
                report.row(
                    Result(
                        name=f"{name}, {size:.0e} events",
                        value=value,
                        unit=unit,
                        baseline_name=f"with {sizes[0]:.0e}" if size != sizes[0] else None,
                        baseline=baseline if size != sizes[0] else None,
                        better="higher" if unit == "events/s" else "lower",
                    )
                )
    finally:
        await database.close()


class _Copies:
    """Copies of the calls of a log under new names, until it has a size."""

    def __init__(self, database: Database, originals: int) -> None:
        self._database = database
        self._originals = originals
        self._sessions = [named_session_id(TENANT, f"benchmark {number}") for number in range(CALLS)]
        self._made = 0

    async def fill(self, size: int) -> None:
        """Add copies until the log has about so many events."""
        missing = size - await _count(self._database)
        for _ in range(max(0, round(missing / self._originals))):
            self._made += 1
            named = [named_session_id(TENANT, f"copy {self._made} {n}") for n in range(CALLS)]
            newest = await self._database.pool.fetchval(_NEWEST)
            await self._database.pool.execute(
                _COPY, self._sessions, named, [partition_of(one) for one in named], newest
            )
        newest = await self._database.pool.fetchval(_NEWEST)
        await self._database.pool.execute(_REACHED, newest)
        await self._database.pool.execute("vacuum analyze event_log", timeout=300)


async def _count(database: Database) -> int:
    return int(await database.pool.fetchval("select count(*) from event_log"))


async def _figures(
    servers: Servers, report: Report, database: Database, size: int, number: int
) -> list[tuple[str, str, float]]:
    log = Log(database, None)
    report.step(f"{size} events: rebuild {VIEW}", seconds=60 + size / 5_000)
    began = time.perf_counter()
    rebuild_memory = await command(servers, "rebuild", VIEW)
    rebuilt = await _count(database) / (time.perf_counter() - began)
    report.step(f"{size} events: read and commit", seconds=180)
    read = await _read(log)
    session = await _median(lambda n: log.read_session(TENANT, _session(n)))
    page = await _median(lambda n: _page(log, n))
    began = time.perf_counter()
    status_memory = await command(servers, "status")
    status = time.perf_counter() - began
    more = list(calls(COMMITTED_CALLS, f"growth-{number}"))
    began = time.perf_counter()
    await FilledLog(database).put(more)
    committed = len(more) / (time.perf_counter() - began)
    report.step(f"{size} events: memory", seconds=180)
    await database.pool.execute(_REACHED, 0)  # the stream is empty: the process would miss what was read
    async with running(servers, "--no-ingest", views=[VIEW]) as process:
        live_memory = process.memory_info().rss / MIB
    return [
        ("commit by the SQL of ingest", "events/s", committed),
        (f"read of {READ_EVENTS} events", "events/s", read),
        (f"`rebuild {VIEW}`, with its start", "events/s", rebuilt),
        ("read of a session of 91 events, p50", "ms", session * 1000),
        ("a page of 100 of the feed, p50", "ms", page * 1000),
        ("`status`, with its start", "s", status),
        (f"memory of `rebuild {VIEW}`, peak", "MiB", rebuild_memory),
        ("memory of `status`, peak", "MiB", status_memory),
        (f"memory of `run --no-ingest --only {VIEW}`", "MiB", live_memory),
        ("memory of the processes of Postgres, shared once", "MiB", await _postgres_memory(database)),
    ]


def _session(number: int) -> str:
    return named_session_id(TENANT, f"benchmark {number * 7 % CALLS}")


async def _read(log: Log) -> float:
    began, events = time.perf_counter(), 0
    async with aclosing(log.read(Cursor(), batch=4_000, prefetch=True)) as batches:
        async for batch in batches:
            events += len(batch.envelopes)
            if events >= READ_EVENTS:
                break
    return events / (time.perf_counter() - began)


async def _page(log: Log, number: int) -> None:
    """Read a page from somewhere in the log."""
    head = await log.head()
    part = (number + 1) / (REPEATS + 2)
    cursor = Cursor({p: int(head.after(p) * part) for p in range(PARTITIONS)})
    async with aclosing(log.read(cursor, head, tenant=TENANT, batch=100)) as batches:
        async for _ in batches:
            break


async def _median(call: Callable[[int], Awaitable[object]]) -> float:
    seconds = []
    for number in range(REPEATS):
        began = time.perf_counter()
        await call(number)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


async def _postgres_memory(database: Database) -> float:
    backend = psutil.Process(await database.pool.fetchval("select pg_backend_pid()"))
    server = backend.parent()
    assert server is not None
    full = [process.memory_full_info().pss for process in [server, *server.children()]]
    return sum(full) / MIB
