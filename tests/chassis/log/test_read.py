"""Reading a session from the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log import Log
from antiphon.chassis.log.notify import DecodedAnnouncements
from antiphon.chassis.log.read import PAGE_BYTES
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.registry import open_event

SESSION = "ses_00000000000000000000000001"


async def test_a_page_starts_after_a_sequence_and_has_a_limit(
    database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION, 10)
    log = Log(database, bus)

    page = await log.read_session("default", SESSION, after=4, limit=3)

    assert [envelope.sequence for envelope in page] == [5, 6, 7]
    assert open_event(page[0]).TYPE == "command.requested"


async def test_another_tenant_reads_nothing(database: Database, bus: Bus, writer: Any) -> None:
    await writer.commit(SESSION, 2)

    assert await Log(database, bus).read_session("stranger", SESSION) == []


async def test_reading_during_a_postgres_outage_raises(
    postgres_server: Postgres, database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION)
    postgres_server.stop()

    with pytest.raises(DatabaseUnavailable):
        await Log(database, bus).read_session("default", SESSION)


async def test_a_page_of_large_events_is_bounded_in_bytes_and_has_more(
    database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION, 12, size=PAGE_BYTES // 4)
    log = Log(database, bus)

    read: list[object] = []
    sizes = []
    more = True
    while more:
        page = await log.read_page("default", SESSION, after=len(read), limit=500)
        read += [envelope.sequence for envelope in page.envelopes]
        sizes.append(sum(len(envelope.data) for envelope in page.envelopes))
        more = page.more

    assert read == list(range(1, 13))
    assert max(sizes) <= PAGE_BYTES * 5 // 4


async def test_an_event_larger_than_a_page_is_a_page(database: Database, bus: Bus, writer: Any) -> None:
    await writer.commit(SESSION, 2, size=2 * PAGE_BYTES)
    log = Log(database, bus)

    first = await log.read_page("default", SESSION, after=0, limit=500)

    assert (len(first.envelopes), first.more) == (1, True)
    assert [e.sequence async for e in _history(log)] == [1, 2]


async def _history(log: Log) -> AsyncIterator[Envelope]:
    async with aclosing(log.follow_session("default", SESSION)) as events:
        for _ in range(2):
            yield await asyncio.wait_for(anext(events), 30)


async def test_partitions_with_large_events_are_read_in_bounded_pages(
    database: Database, bus: Bus, writer: Any
) -> None:
    sessions = [f"ses_{number:026d}" for number in range(24)]
    for session in sessions:
        await writer.commit(session, 6, size=PAGE_BYTES // 16)
    received: list[Envelope] = []
    sizes = []

    async with aclosing(Log(database, bus).follow(Cursor(), batch=500)) as following, asyncio.timeout(60):
        while len(received) < 24 * 6:
            batch = await anext(following)
            received += batch.envelopes
            sizes.append(sum(len(envelope.data) for envelope in batch.envelopes))

    assert {(e.subject, e.sequence) for e in received} == {(s, n) for s in sessions for n in range(1, 7)}
    assert max(sizes) <= 3 * PAGE_BYTES


async def test_decoded_announcements_are_bounded_in_bytes(writer: Any) -> None:
    decoded = DecodedAnnouncements(max_bytes=10_000)
    for _ in range(20):
        payload = msgspec.json.encode(await writer.commit(SESSION, size=2_000))
        assert decoded.decode(payload) is decoded.decode(payload)

        assert decoded.bytes <= 10_000
    assert decoded.bytes > 5_000
