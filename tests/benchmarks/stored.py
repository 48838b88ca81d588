"""Stored: the bytes of an event of a call in the stream, the event log and the views."""

import asyncio
from functools import partial

from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.bus import Bus, GroupCommit, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.streams import SESSIONS

from .history import calls
from .persistence import command
from .report import Report, Result, Servers

CALLS = 330  # of 91 events: about 30,000
SIZE = (
    "select sum(pg_total_relation_size(c.oid)) from pg_class c where c.relkind in ('r', 'p') and c.relname {}"
)
LOG_TABLES = SIZE.format("like 'event_log%'")
ALL_TABLES = SIZE.format("!~ '^(pg_|sql_)'")


async def run(servers: Servers, report: Report) -> None:
    """Publish and commit a log of realistic calls, and look at the sizes."""
    report.step(f"store {CALLS} calls", seconds=300)
    made = list(calls(CALLS))
    size = sum(len(outgoing(each).payload) for each in made) / len(made)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=2)
    try:
        await bus.ensure()
        group = GroupCommit(bus)
        for start in range(0, len(made), 500):
            await asyncio.gather(*(group.publish(outgoing(each)) for each in made[start : start + 500]))
        stream = (await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}"))["state"]["bytes"]
        before, empty = await _wal(database), await database.pool.fetchval(ALL_TABLES)
        await FilledLog(database).put(made)
        after = await _wal(database)
        log = float(await database.pool.fetchval(LOG_TABLES))
        await command(servers, "rebuild", "--all")
        all_tables = float(await database.pool.fetchval(ALL_TABLES) - empty)
    finally:
        await bus.close()
        await database.close()
    result = partial(Result, unit="bytes", baseline_name="the event as JSON", baseline=size)
    count = len(made)
    for each in (
        result(name="an event in the stream", value=stream / count),
        result(name="an event in the event log, with its indexes", value=log / count),
        result(name="an event in the log and all views", value=all_tables / count),
        result(name="write-ahead log of a committed event", value=(after - before) / count),
        Result(name="events in 1 GiB of log and views", value=2**30 * count / all_tables, unit="events"),
    ):
        report.row(each)


async def _wal(database: Database) -> int:
    return int(await database.pool.fetchval("select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"))
