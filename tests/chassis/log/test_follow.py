"""Following all partitions: in order within each session, from a cursor, through every outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from tests.fixtures.ids import SequentialIds

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log import Batch, Log, batches, follow
from antiphon.chassis.log.partitions import read_partitions
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of


@pytest.fixture
def log(database: Database, bus: Bus) -> Log:
    return Log(database, bus)


async def take(following: AsyncIterator[Batch], count: int) -> list[Envelope]:
    received: list[Envelope] = []
    async with asyncio.timeout(15):
        while len(received) < count:
            received += (await anext(following)).envelopes
    assert len(received) == count
    return received


def by_session(envelopes: list[Envelope]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for envelope in envelopes:
        found.setdefault(envelope.subject, []).append(envelope.sequence)
    return found


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Record the partitions of each read."""
    reads: list[set[int]] = []
    read = read_partitions

    async def recorded(database: Database, after: Any, limit: int, **named: Any) -> Any:
        reads.append(set(after))
        return await read(database, after, limit, **named)

    monkeypatch.setattr(batches, "read_partitions", recorded)
    return reads


async def test_every_session_is_complete_and_in_order(log: Log, writer: Any) -> None:
    ids = SequentialIds()
    sessions = [ids() for _ in range(40)]
    for _ in range(3):
        for session in sessions:
            await writer.commit(session, 2)

    async with aclosing(log.follow(Cursor(), batch=50)) as following:
        received = await take(following, 240)

    assert by_session(received) == {session: [1, 2, 3, 4, 5, 6] for session in sessions}


async def test_a_list_never_exceeds_the_batch_size(log: Log, writer: Any) -> None:
    ids = SequentialIds()
    for _ in range(40):
        await writer.commit(ids(), 5)

    async with aclosing(log.follow(Cursor(), batch=32)) as following:
        sizes = [len((await anext(following)).envelopes) for _ in range(5)]

    assert max(sizes) <= 32


async def test_a_cursor_resumes_where_it_was_taken(log: Log, writer: Any) -> None:
    ids = SequentialIds()
    sessions = [ids() for _ in range(10)]
    for session in sessions:
        await writer.commit(session, 3)
    async with aclosing(log.follow(Cursor(), batch=16)) as following:
        first, cursor = await anext(following)

    async with aclosing(log.follow(Cursor.parse(cursor.encode("log"), "log"), batch=16)) as following:
        rest = await take(following, 30 - len(first))

    assert by_session(first + rest) == {session: [1, 2, 3] for session in sessions}


async def test_an_announcement_causes_a_read_of_its_partition_only(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 60.0)
    session = SequentialIds()()
    async with aclosing(log.follow(Cursor())) as following:
        await writer.commit_and_announce(session)
        await take(following, 1)
        reads = record_reads(monkeypatch)

        for _ in range(5):
            await writer.commit_and_announce(session)
            await take(following, 1)

    assert reads[-1] == {partition_of(session)}


async def test_unannounced_commits_are_found(log: Log, writer: Any) -> None:
    ids = SequentialIds()
    async with aclosing(log.follow(Cursor())) as following:
        await writer.commit_and_announce(ids())
        await take(following, 1)

        await writer.commit(ids())

        await take(following, 1)


async def test_following_survives_a_postgres_outage(postgres_server: Postgres, log: Log, writer: Any) -> None:
    ids = SequentialIds()
    async with aclosing(log.follow(Cursor())) as following:
        await writer.commit_and_announce(ids())
        await take(following, 1)
        postgres_server.stop()
        waiting = asyncio.ensure_future(take(following, 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.3)

        postgres_server.start()
        await writer.commit_and_announce(ids())

        await waiting


async def test_an_outage_of_the_reads_is_reported_to_the_caller(
    database: Database, bus: Bus, postgres_dsn: str, writer: Any
) -> None:
    ids = SequentialIds()
    impatient = await Database.connect(postgres_dsn, max_size=2, statement_timeout_seconds=1.0)
    reported: asyncio.Queue[BaseException] = asyncio.Queue()
    following = Log(impatient, bus).follow(Cursor(), on_outage=reported.put_nowait)
    try:
        async with aclosing(following):
            await writer.commit_and_announce(ids())
            await take(following, 1)
            async with database.pool.acquire() as connection, connection.transaction():
                await connection.execute("lock table event_log in access exclusive mode")
                waiting = asyncio.ensure_future(take(following, 1))
                assert isinstance(await asyncio.wait_for(reported.get(), 60), DatabaseUnavailable)
            await writer.commit_and_announce(ids())
            await waiting
    finally:
        await impatient.close()


async def test_following_works_without_the_bus(nats_server: NatsServer, log: Log, writer: Any) -> None:
    ids = SequentialIds()
    nats_server.stop()
    async with aclosing(log.follow(Cursor())) as following:
        await writer.commit(ids())
        await take(following, 1)
        await writer.commit(ids())
        await take(following, 1)


async def test_closing_ends_all_tasks(log: Log) -> None:
    before = asyncio.all_tasks()
    following = log.follow(Cursor())
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await following.aclose()

    async with asyncio.timeout(60):
        while left := {task.get_name() for task in asyncio.all_tasks() - before}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not left


async def test_an_unannounced_commit_is_found_while_other_partitions_are_busy(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 3.0)
    busy, quiet = SequentialIds()(), SequentialIds(start=2)()
    assert partition_of(busy) != partition_of(quiet)
    async with aclosing(log.follow(Cursor())) as following, asyncio.timeout(60):
        await anext(following)
        await anext(following)  # the subscription is there: it notifies once of all partitions
        await writer.commit(quiet)
        found: set[str] = set()
        while quiet not in found:
            await writer.commit_and_announce(busy)
            await asyncio.sleep(0.05)
            found |= {envelope.subject for envelope in (await anext(following)).envelopes}


async def test_announcements_of_other_types_cause_no_read(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SequentialIds()()
    async with aclosing(log.follow(Cursor(), types=["turn.saved"])) as following, asyncio.timeout(60):
        await anext(following)
        await anext(following)  # the subscription is there: it notifies once of all partitions
        monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 3600.0)
        await anext(following)
        reads = record_reads(monkeypatch)
        reading = asyncio.ensure_future(anext(following))
        for _ in range(20):
            await writer.commit_and_announce(session)
        await writer.announce(await writer.commit(session, turns=True))

        batch = await reading

    assert [envelope.sequence for envelope in batch.envelopes] == [21]
    assert reads == [{partition_of(session)}]
