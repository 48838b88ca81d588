"""Ingest: throughput against the bare loop with the same SQL; the cost of the hash chain; verification."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.nats_access import NatsAccess
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.ingest.group_writer import GroupWriter
from antiphon.persistence.ingest.partition import IngestOptions, PartitionIngest
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.sql import read_sql
from antiphon.persistence.verify.log_chain import verify_log

from .bare_ingest import bare_loop
from .report import Report, Result, Servers

EVENTS = 60_000
CALLS = 320  # sessions that run at the same time
PASSES = 2

Loop = Callable[[Any, Database, asyncio.Event], Coroutine[Any, Any, None]]


async def run(servers: Servers, report: Report) -> None:
    """Fill an empty stream, then ingest it with each loop in turn, from the start each time."""
    report.step(f"fill the stream with {EVENTS} events", seconds=180)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=PARTITIONS + 4)
    try:
        await bus.ensure()
        await fill(bus, EVENTS)
        unchained, bare, ours = 0.0, 0.0, 0.0
        for number in range(1, PASSES + 1):
            report.step(f"bare loop without the hash chain, pass {number} of {PASSES}", seconds=120)
            async with _without_chain(database):
                unchained = max(unchained, await throughput(bare_loop, servers.nats_url, database))
            report.step(f"bare loop, pass {number} of {PASSES}", seconds=120)
            bare = max(bare, await throughput(bare_loop, servers.nats_url, database))
            report.step(f"ingest, pass {number} of {PASSES}", seconds=120)
            ours = max(ours, await throughput(ingest, servers.nats_url, database))
        report.step("verify the log", seconds=120)
        verified = await verify_log(database)
        if not verified.ok:
            raise RuntimeError(f"the log differs: {verified.differences[0]}")
    finally:
        await bus.close()
        await database.close()
    report.row(
        Result(name="ingest, one process", value=ours, unit="events/s", target=20_000, better="higher")
    )
    report.row(
        Result(
            name="ingest against the bare loop with the same SQL",
            value=ours,
            unit="events/s",
            baseline_name="bare loop",
            baseline=bare,
            target=0.8,
            compared="ratio",
            better="higher",
        )
    )
    report.row(
        Result(
            name="the bare loop with the hash chain against without",
            value=bare,
            unit="events/s",
            baseline_name="without, the SQL of 0003",
            baseline=unchained,
            better="higher",
        )
    )
    report.row(
        Result(
            name="verify --log", value=verified.verified / verified.seconds, unit="events/s", better="higher"
        )
    )


@asynccontextmanager
async def _without_chain(database: Database) -> AsyncIterator[None]:
    """Let the database commit with the function of the revision before the chain."""
    old, new = (
        read_sql("antiphon.persistence.migrations", f"versions/{revision}_ingest_batch.sql")
        for revision in ("0003", "0008")
    )
    await database.pool.execute(old.replace("create function", "create or replace function"))
    try:
        yield
    finally:
        await database.pool.execute(new)


async def fill(bus: Bus, events: int) -> None:
    """Publish the events of many calls, interleaved."""
    batch = []
    for envelope in conversation(events):
        batch.append(outgoing(envelope))
        if len(batch) == 1000:
            await bus.publish_many(batch)
            batch = []
    if batch:
        await bus.publish_many(batch)


def conversation(events: int, name: str = "benchmark") -> Iterator[Envelope]:
    """Yield turns of many calls in rotation; about 700 bytes each."""
    sessions = [named_session_id("default", f"{name} {call}") for call in range(CALLS)]
    for number in range(events):
        session_id, n = sessions[number % CALLS], number // CALLS + 1
        yield seal(
            TurnSaved(
                turn=n,
                agent_id="host",
                user_text="i would like to book a table for two",
                assistant_text="With pleasure. For which day, and at what time?",
                assistant_text_generated="With pleasure. For which day, and at what time?",
                language="en",
                confidence=0.91,
                metrics={"end_of_utterance_ms": 512.25, "llm_first_token_ms": 3.5, "tts_first_byte_ms": 41.0},
            ),
            id=agent_event_id(session_id, "AJ_benchmark", n),
            session_id=session_id,
            tenant="default",
            producer="benchmark",
            producerseq=n,
            time=datetime.now(UTC),
        )


async def throughput(loop: Loop, broker: str | NatsAccess, database: Database, events: int = EVENTS) -> float:
    """Return the events that a loop commits in a second, from the start of a stream of so many."""
    await database.pool.execute("truncate event_log, checkpoints, dead_letters")
    stop = asyncio.Event()
    started = time.perf_counter()
    running = asyncio.create_task(loop(broker, database, stop))
    try:
        while await _position(database) < events:
            if running.done():
                await running
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - started
    finally:
        stop.set()
        await running
    return events / seconds


async def _position(database: Database) -> int:
    return int(await database.pool.fetchval("select coalesce(max(position), 0) from checkpoints"))


async def ingest(broker: str | NatsAccess, database: Database, stop: asyncio.Event) -> None:
    """Commit events as persistence does, until stopped."""
    bus = await Bus.connect(broker, name="ingest")
    readiness = ReadinessCheck()
    writer = GroupWriter(database)
    partitions = [
        PartitionIngest(p, bus, database, writer, readiness, IngestOptions()) for p in range(PARTITIONS)
    ]
    try:
        await asyncio.gather(*(partition.run(stop) for partition in partitions))
    finally:
        await bus.close()
