"""Partition: what one partition commits, which one loop carries, against the same events in all sixteen."""

import asyncio

from antiphon.chassis.bus import Bus, GroupCommit, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import partition_of

from .history import call
from .persistence import running, until
from .report import Report, Result, Servers

EVENTS = 20_000
WAVE = 500
COMMIT_SECONDS = 150.0
ONE, ALL = "one", "all"  # the tenants of the two logs
SECONDS = "select extract(epoch from max(committed_at) - min(committed_at)) from event_log where tenant = $1"
COMMITTED = "select count(*) >= $1 from event_log where tenant = $2"


async def run(servers: Servers, report: Report) -> None:
    """Publish the same number of events to one partition and to all; let a process commit each."""
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=1)
    rates: dict[str, float] = {}
    try:
        await bus.ensure()
        for tenant in (ALL, ONE):
            report.step(f"publish {EVENTS} events for {tenant}", seconds=120)
            await _publish(bus, events(tenant, only=0 if tenant == ONE else None))
            report.step(f"commit those of {tenant}", seconds=COMMIT_SECONDS + 60)
            rates[tenant] = await _committed(servers, database, tenant)
    finally:
        await bus.close()
        await database.close()
    report.row(
        Result(
            name="ingest of one partition",
            value=rates[ONE],
            unit="events/s",
            baseline_name="of all partitions, one process",
            baseline=rates[ALL],
            better="higher",
        )
    )


def events(tenant: str, *, only: int | None) -> list[Envelope]:
    """Return the events of calls, those of one partition or of any, one call after the other."""
    found: list[Envelope] = []
    number = 0
    while len(found) < EVENTS:
        if only is None or partition_of(named_session_id(tenant, f"benchmark {number}")) == only:
            found += call(number, tenant)
        number += 1
    return found[:EVENTS]


async def _publish(bus: Bus, made: list[Envelope]) -> None:
    group = GroupCommit(bus)
    for start in range(0, len(made), WAVE):
        await asyncio.gather(*(group.publish(outgoing(each)) for each in made[start : start + WAVE]))


async def _committed(servers: Servers, database: Database, tenant: str) -> float:
    """Return the events that a process commits in a second, from its first commit to its last."""
    async with asyncio.timeout(COMMIT_SECONDS), running(servers, views=[]):
        await until(database, COMMITTED, EVENTS, tenant)
    return EVENTS / float(await database.pool.fetchval(SECONDS, tenant))
