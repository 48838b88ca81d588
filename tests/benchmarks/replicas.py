"""Replicas: throughput, lag and takeover of 1, 2 and 4 persistence processes on one machine.

Each replica is a process of its own, the load comes from this one; all share the cores of the machine.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from statistics import quantiles

import msgspec

from antiphon.chassis.bus import Bus, GroupCommit, Outgoing, Subscription, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS, committed_filter, partition_of
from antiphon.persistence.leases.locks import INGEST, holders, lease_name

from .ingest import conversation
from .report import Report, Result, Servers

NUMBERS = (1, 2, 4)
EVENTS = 20_000  # that wait in the stream when all replicas start to ingest
RATE = 500  # events a second, for the lag
LAG_SECONDS = 5
KILLS = 10
SETTLE_SECONDS = 60
INGESTED = "select max(position) >= $1 from checkpoints"
PROJECTED = """
select not exists (
    select from projection_checkpoints join checkpoints on name = 'ingest:' || partition
     where projection_checkpoints.position < checkpoints.position)
"""
PROBES_COMMITTED = "select count(*) = $2 from event_log where event_id = any($1::text[])"
LEASES = [lease_name(INGEST, partition) for partition in range(PARTITIONS)]

_announcement = msgspec.json.Decoder(list[Envelope])
_names = count()


async def run(servers: Servers, report: Report) -> None:
    """Measure with each number of replicas in turn; kill replicas while the most of them run."""
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=4)
    first: list[Result] = []
    try:
        await bus.ensure()
        for number in NUMBERS:
            report.step(f"start {number} of the replicas", seconds=SETTLE_SECONDS + 30)
            async with replicas(servers, database, number) as running:
                report.step(f"{number} replicas: ingest {EVENTS} events", seconds=120)
                rate = await throughput(bus, database)
                report.step(f"{number} replicas: lag at {RATE} events a second", seconds=60)
                lags = await lag(bus)
                results = figures(number, rate, lags)
                for result, baseline in zip(results, first or results, strict=True):
                    report.row(compared(result, baseline) if first else result)
                first = first or results
                if number == NUMBERS[-1]:
                    report.step(f"kill {KILLS} of the replicas, one after the other", seconds=90 + 8 * KILLS)
                    for result in takeovers(await kill(servers, bus, database, running)):
                        report.row(result)
                report.step("stop the replicas", seconds=60)
    finally:
        await bus.close()
        await database.close()


def compared(result: Result, baseline: Result) -> Result:
    """Return a figure beside that of one replica."""
    return msgspec.structs.replace(result, baseline_name="with 1 replica", baseline=baseline.value)


def figures(number: int, rate: float, lags: Sequence[float]) -> list[Result]:
    """Return the figures of one number of replicas."""
    many = f"{number} replica{'' if number == 1 else 's'}"
    results = [Result(name=f"{many}: ingest, all views live", value=rate, unit="events/s", better="higher")]
    for p in (50, 99):
        value = quantiles(lags, n=100)[p - 1] * 1000
        results.append(Result(name=f"{many}: lag committed, p{p}, {RATE} ev/s", value=value, unit="ms"))
    return results


def takeovers(seconds: Sequence[float]) -> list[Result]:
    """Return the figures of the kills."""
    percentiles = quantiles(seconds, n=100, method="inclusive")
    return [
        Result(
            name=f"kill -9 of 1 of {NUMBERS[-1]} replicas -> its partitions commit again, p{p}",
            value=percentiles[p - 1],
            unit="s",
            target=5.0,
        )
        for p in (50, 95)
    ]


async def throughput(bus: Bus, database: Database) -> float:
    """Let events gather while the log is locked; return the rate at which they are committed then."""
    async with database.transaction() as connection:
        await connection.execute("lock table event_log in exclusive mode")
        batch = []
        for envelope in conversation(EVENTS, f"replicas {next(_names)}"):
            batch.append(outgoing(envelope))
            if len(batch) == 1000:
                await bus.publish_many(batch)
                batch = []
    began = time.perf_counter()
    stream = await bus.stream_state()
    assert stream is not None
    await _until(database, INGESTED, stream.last)
    seconds = time.perf_counter() - began
    await _until(database, PROJECTED)
    return EVENTS / seconds


async def _until(database: Database, query: str, *arguments: object) -> None:
    while not await database.pool.fetchval(query, *arguments):  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.01)


async def lag(bus: Bus) -> list[float]:
    """Publish at a steady rate; return the times until the events were committed and announced."""
    published: dict[str, float] = {}
    lags: list[float] = []
    subscription = await bus.subscribe(committed_filter())
    group = GroupCommit(bus)
    try:
        async with asyncio.timeout(50), asyncio.TaskGroup() as tasks:
            tasks.create_task(_collect(subscription, published, lags))
            began = time.perf_counter()
            for number, envelope in enumerate(conversation(RATE * LAG_SECONDS, f"replicas {next(_names)}")):
                await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
                out = outgoing(envelope)
                published[envelope.id] = time.perf_counter()
                tasks.create_task(_publish(group, out))
    finally:
        await subscription.close()
    return lags


async def _publish(group: GroupCommit, out: Outgoing) -> None:
    await group.publish(out)


async def _collect(subscription: Subscription, published: dict[str, float], lags: list[float]) -> None:
    async for _, payload in subscription:
        now = time.perf_counter()
        lags += [now - published[e.id] for e in _announcement.decode(payload) if e.id in published]
        if len(lags) >= RATE * LAG_SECONDS:
            return


async def kill(
    servers: Servers, bus: Bus, database: Database, running: "list[subprocess.Popen[bytes]]"
) -> list[float]:
    """Kill replicas one by one; return the seconds until each one's partitions are committed again."""
    seconds = []
    for _ in range(KILLS):
        victim = running.pop(0)
        async with database.pool.acquire() as connection:
            held = await holders(connection, LEASES)
        partitions = {LEASES.index(lease) for lease, who in held.items() if f":{victim.pid} from" in who}
        victim.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        probes = {}
        for envelope in conversation(320, f"replicas {next(_names)}"):
            if (partition := partition_of(envelope.subject)) in partitions and partition not in probes:
                probes[partition] = envelope
        await bus.publish_many([outgoing(envelope) for envelope in probes.values()])
        ids = [envelope.id for envelope in probes.values()]
        await _until(database, PROBES_COMMITTED, ids, len(ids))
        seconds.append(time.perf_counter() - began)
        await asyncio.to_thread(victim.wait, 30)
        running.append(start(servers))
        await settled(database, running)
    return seconds


@asynccontextmanager
async def replicas(
    servers: Servers, database: Database, number: int
) -> AsyncIterator["list[subprocess.Popen[bytes]]"]:
    """Run replicas that share the partitions fairly; those that are in the list at the end are stopped."""
    running = [start(servers) for _ in range(number)]
    try:
        await settled(database, running)
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            await asyncio.to_thread(process.wait, 30)


def start(servers: Servers) -> "subprocess.Popen[bytes]":
    """Start a replica."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "ANTIPHON_PERSISTENCE_HEALTH_PORT": str(port),
        "ANTIPHON_LOG_LEVEL": "error",
    }
    # not asyncio's: uvloop detects the end of a child only in the first loop of a process
    return subprocess.Popen([sys.executable, "-m", "antiphon.persistence", "run"], env=environment)


async def settled(database: Database, running: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Wait until the replicas share the partitions of ingest, and have claimed them."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            async with database.pool.acquire() as connection:
                held = Counter((await holders(connection, LEASES)).values())
            shares = [sum(n for who, n in held.items() if f":{each.pid} from" in who) for each in running]
            if sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1:
                break
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)  # to claim them, and for the views
