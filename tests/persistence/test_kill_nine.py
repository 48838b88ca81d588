"""Ten `kill -9` of persistence within 20,000 events: none is lost, duplicated or out of order."""

import asyncio
import signal
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Replicas

pytestmark = pytest.mark.slow

EVENTS = 20_000
CALLS = 100
KILLS = 10
AHEAD = 2_000


async def test_ten_kills_lose_no_event_duplicate_none_and_keep_the_order(
    bus: Bus,
    database: Database,
    event_log: "LogReader",
    replica: "Replicas",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    sessions = [new_session(f"killed {n}") for n in range(CALLS)]
    calls = [[session.turn(n) for n in range(1, EVENTS // CALLS + 1)] for session in sessions]
    publishing = asyncio.create_task(_publish(bus, event_log, chain.from_iterable(zip(*calls, strict=True))))

    for kill in range(1, KILLS + 1):
        persistence = replica(ANTIPHON_INGEST_BATCH="100")
        await persistence.start()
        await event_log.until(EVENTS * kill // (KILLS + 2), seconds=60)
        await persistence.end(signal.SIGKILL)
        assert await event_log.count() < EVENTS, "killed after the end proves nothing"
    last = replica()
    await last.start()
    await publishing
    await event_log.until(EVENTS, seconds=60)

    for session, call in zip(sessions, calls, strict=True):
        assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert await event_log.count() == EVENTS
    assert await event_log.dead_letters() == []
    report = await verify_log(database)
    assert (report.differences, report.verified) == ([], EVENTS)
    await _views_hold_every_turn(database, eventually)


async def _publish(bus: Bus, event_log: "LogReader", envelopes: Iterable[Envelope]) -> None:
    """Stay a little ahead of the log, so that at each kill some events wait and others arrive."""
    outs = [outgoing(envelope) for envelope in envelopes]
    for start in range(0, len(outs), 250):
        await event_log.until(start - AHEAD, seconds=60)
        await bus.publish_many(outs[start : start + 250])


async def _views_hold_every_turn(database: Database, eventually: "Eventually") -> None:
    async def complete() -> bool:
        folded = await database.pool.fetchval("select coalesce(sum(sequence), 0) from sessions")
        saved = await database.pool.fetchval("select count(*) from turns")
        return (folded, saved) == (EVENTS, EVENTS)

    await eventually(complete, seconds=60)
    rows = await database.pool.fetch("select turns, sequence from sessions")
    assert [tuple(row) for row in rows] == [(EVENTS // CALLS, EVENTS // CALLS)] * CALLS
