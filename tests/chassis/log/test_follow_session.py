"""Following a session: no gap and no repetition, even when announcements are lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log, session_follower
from antiphon.chassis.log.read import read_step
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import committed_subject

SESSION = "ses_00000000000000000000000001"
OTHER = "ses_00000000000000000000000002"


@pytest.fixture
def log(database: Database, bus: Bus) -> Log:
    return Log(database, bus)


async def take(following: AsyncIterator[Envelope], count: int) -> list[int]:
    """Return the sequences of the next events."""
    async with asyncio.timeout(15):
        return [int(str((await anext(following)).sequence)) for _ in range(count)]


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the sequence after which the log was read, each time."""
    reads: list[int] = []
    read = read_step

    async def recorded(database: Database, tenant: str, session_id: str, after: int, *limits: int) -> Any:
        reads.append(after)
        return await read(database, tenant, session_id, after, *limits)

    monkeypatch.setattr(session_follower, "read_step", recorded)
    return reads


async def test_history_comes_before_live_events(log: Log, writer: Any) -> None:
    await writer.commit(SESSION, 3)
    following = log.follow_session("default", SESSION)

    assert await take(following, 3) == [1, 2, 3]
    await writer.commit_and_announce(SESSION, 2)
    await writer.commit_and_announce(OTHER)
    await writer.commit_and_announce(SESSION)
    assert await take(following, 3) == [4, 5, 6]
    await following.aclose()


async def test_events_carry_sequence_and_position(log: Log, writer: Any) -> None:
    await writer.commit(OTHER, 4)
    expected = await writer.commit(SESSION, 2)
    expected += await writer.commit(SESSION, 1)

    async with aclosing(log.follow_session("default", SESSION)) as following:
        received = [await anext(following) for _ in range(3)]

    assert received == expected
    assert [envelope.position for envelope in received] == [5, 6, 7]


async def test_following_starts_after_a_sequence(log: Log, writer: Any) -> None:
    await writer.commit(SESSION, 5)

    async with aclosing(log.follow_session("default", SESSION, after=3)) as following:
        assert await take(following, 2) == [4, 5]


async def test_an_announcement_without_a_gap_causes_no_query(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = record_reads(monkeypatch)
    await writer.commit(SESSION)
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await take(following, 1)
        for _ in range(20):
            await writer.commit_and_announce(SESSION)

        assert await take(following, 20) == list(range(2, 22))

    assert reads == [0]


async def test_a_lost_announcement_is_detected_by_the_next(log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION)
        assert await take(following, 1) == [1]

        await writer.commit(SESSION, 3)
        await writer.commit_and_announce(SESSION)

        assert await take(following, 4) == [2, 3, 4, 5]


async def test_unannounced_commits_are_found_by_polling(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_follower, "SESSION_POLL_SECONDS", 0.1)
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION)
        assert await take(following, 1) == [1]

        await writer.commit(SESSION, 2)

        assert await take(following, 2) == [2, 3]


async def test_repeated_and_overlapping_announcements_repeat_no_event(log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        first = await writer.commit_and_announce(SESSION, 2)
        await writer.announce(first)
        second = await writer.commit(SESSION, 2)
        await writer.announce([*first, *second])
        await writer.announce(second)
        await writer.commit_and_announce(SESSION)

        assert await take(following, 5) == [1, 2, 3, 4, 5]


async def test_a_malformed_announcement_causes_a_read(log: Log, bus: Bus, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION)
        assert await take(following, 1) == [1]
        await writer.commit(SESSION)

        await bus.announce(committed_subject("default", SESSION), b"{")

        assert await take(following, 1) == [2]


async def test_another_tenant_receives_nothing(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_follower, "SESSION_POLL_SECONDS", 0.05)
    async with aclosing(log.follow_session("stranger", SESSION)) as following:
        await writer.commit_and_announce(SESSION, 3)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(following), 0.3)


async def test_more_history_than_a_page_is_complete(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_follower, "STEP", 10)
    await writer.commit(SESSION, 35)

    async with aclosing(log.follow_session("default", SESSION)) as following:
        assert await take(following, 35) == list(range(1, 36))


async def test_a_postgres_outage_skips_nothing(postgres_server: Postgres, log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION)
        assert await take(following, 1) == [1]
        lost = await writer.commit(SESSION, 2)
        next_one = await writer.commit(SESSION)
        postgres_server.stop()

        await writer.announce(next_one)
        waiting = asyncio.ensure_future(take(following, 3))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.5)
        postgres_server.start()

        assert await waiting == [2, 3, 4]
        assert len(lost) == 2


async def test_announcements_suffice_during_a_postgres_outage(
    postgres_server: Postgres, log: Log, writer: Any
) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION)
        assert await take(following, 1) == [1]
        next_one = await writer.commit(SESSION)
        postgres_server.stop()

        await writer.announce(next_one)

        assert await take(following, 1) == [2]
        postgres_server.start()


async def test_history_is_read_during_a_bus_outage(nats_server: NatsServer, log: Log, writer: Any) -> None:
    await writer.commit(SESSION, 2)
    nats_server.stop()

    async with aclosing(log.follow_session("default", SESSION)) as following:
        assert await take(following, 2) == [1, 2]
        nats_server.start()
        await writer.commit(SESSION)
        assert await take(following, 1) == [3]


async def test_a_broker_restart_loses_nothing(nats_server: NatsServer, log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.commit_and_announce(SESSION, 2)
        assert await take(following, 2) == [1, 2]

        nats_server.kill()
        await writer.commit_and_announce(SESSION, 2)
        nats_server.start()
        await writer.commit_and_announce(SESSION)

        assert await take(following, 3) == [3, 4, 5]


@pytest.mark.parametrize("seed", range(3))
async def test_closing_at_any_moment_removes_the_subscription(log: Log, bus: Bus, seed: int) -> None:
    chance = random.Random(seed)
    before = set(bus.connection.client._subs)
    for _ in range(60):
        following = log.follow_session("default", SESSION)
        waiting = asyncio.ensure_future(anext(following))
        for _ in range(chance.randint(0, 12)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.choice([0, 0.001, 0.003]))

        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await following.aclose()
        await bus.ready()

        assert set(bus.connection.client._subs) == before


@pytest.mark.parametrize("seed", range(5))
async def test_random_losses_arrive_complete_and_in_order(
    log: Log, writer: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_follower, "SESSION_POLL_SECONDS", 0.2)
    chance = random.Random(seed)
    total = 150

    async def write() -> None:
        written: list[list[Envelope]] = []
        while sum(map(len, written)) < total:
            count = min(chance.randint(1, 4), total - sum(map(len, written)))
            written.append(await writer.commit(SESSION, count))
            if chance.random() < 0.7:
                await writer.announce(chance.choice(written[-3:]))
            if chance.random() < 0.2:
                await asyncio.sleep(0.01)

    async with aclosing(log.follow_session("default", SESSION)) as following:
        writing = asyncio.create_task(write())
        assert await take(following, total) == list(range(1, total + 1))
        await writing
