"""A backlog of large events is ingested and projected in bounded memory."""

import asyncio
import random
from typing import TYPE_CHECKING

import psutil
import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Replica, Replicas

pytestmark = [pytest.mark.slow, pytest.mark.embedded_servers]

EVENTS = 2_100
SIZE = 100_000
SESSIONS = 30
MAX_GROWTH = 200 << 20  # bytes, of 210 MB
SECONDS = 120.0


async def test_two_thousand_events_of_100_kb_need_no_more_memory_than_a_few(
    bus: Bus,
    database: Database,
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    persistence = replica()
    await persistence.start()
    await persistence.until_ready(60)
    before = psutil.Process(persistence.process.pid).memory_info().rss
    await persistence.end()
    slow_consumers = nats_server.output.read_text().count("Slow Consumer")
    await publish_large(bus, new_session)

    await persistence.start()
    highest = asyncio.create_task(watch_memory(persistence))
    await event_log.until(EVENTS, SECONDS)

    async def projected() -> bool:
        return bool(await database.pool.fetchval("select count(*) from turns") == EVENTS)

    await eventually(projected, SECONDS)
    highest.cancel()
    await asyncio.wait([highest])

    log = persistence.log.read_text()
    assert "nats.disconnected" not in log
    assert nats_server.output.read_text().count("Slow Consumer") == slow_consumers
    dense = await database.pool.fetch("select max(sequence), count(*) from event_log group by session_id")
    assert [tuple(row) for row in dense] == [(EVENTS // SESSIONS, EVENTS // SESSIONS)] * SESSIONS
    assert watched[persistence.process.pid] - before < MAX_GROWTH


watched: dict[int, int] = {}


async def watch_memory(persistence: "Replica") -> None:
    """Record the largest size of the process, until cancelled."""
    process = psutil.Process(persistence.process.pid)
    while True:
        watched[process.pid] = max(watched.get(process.pid, 0), process.memory_info().rss)
        await asyncio.sleep(0.05)


async def publish_large(bus: Bus, new_session: "NewSession") -> None:
    sessions = [new_session(f"large {number}") for number in range(SESSIONS)]
    source = random.Random(1)
    for turn in range(1, EVENTS // SESSIONS + 1):
        text = source.randbytes(SIZE // 2).hex()  # does not compress well
        for first in range(0, SESSIONS, 10):
            envelopes = [session.turn(turn, text) for session in sessions[first : first + 10]]
            await bus.publish_many([outgoing(envelope) for envelope in envelopes])
