"""Following a session: never a gap, never a repetition, whatever is lost on the way."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log, follow_session
from antiphon.chassis.log.reading import read_session
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


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note after which sequence the log was read, each time."""
    looks: list[int] = []
    read = read_session

    async def counted(database: Database, tenant: str, session_id: str, after: int, limit: int) -> Any:
        looks.append(after)
        return await read(database, tenant, session_id, after, limit)

    monkeypatch.setattr(follow_session, "read_session", counted)
    return looks


async def test_history_comes_first_and_then_what_is_live(log: Log, writer: Any) -> None:
    await writer.commit(SESSION, 3)
    following = log.follow_session("default", SESSION)

    assert await take(following, 3) == [1, 2, 3]
    await writer.say(SESSION, 2)
    await writer.say(OTHER)
    await writer.say(SESSION)
    assert await take(following, 3) == [4, 5, 6]
    await following.aclose()


async def test_events_carry_the_numbers_of_their_commit(log: Log, writer: Any) -> None:
    await writer.commit(OTHER, 4)
    expected = await writer.commit(SESSION, 2)
    expected += await writer.commit(SESSION, 1)

    async with aclosing(log.follow_session("default", SESSION)) as following:
        received = [await anext(following) for _ in range(3)]

    assert received == expected
    assert [envelope.position for envelope in received] == [5, 6, 7]


async def test_following_begins_after_a_sequence(log: Log, writer: Any) -> None:
    await writer.commit(SESSION, 5)

    async with aclosing(log.follow_session("default", SESSION, after=3)) as following:
        assert await take(following, 2) == [4, 5]


async def test_an_announcement_that_continues_costs_no_query(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count_looks(monkeypatch)
    await writer.commit(SESSION)
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await take(following, 1)
        for _ in range(20):
            await writer.say(SESSION)

        assert await take(following, 20) == list(range(2, 22))

    assert looks == [0]


async def test_a_lost_announcement_is_noticed_by_the_next(log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION)
        assert await take(following, 1) == [1]

        await writer.commit(SESSION, 3)
        await writer.say(SESSION)

        assert await take(following, 4) == [2, 3, 4, 5]


async def test_commits_that_nobody_announces_are_found_by_a_look(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_session, "SAFETY_LOOK_SECONDS", 0.1)
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION)
        assert await take(following, 1) == [1]

        await writer.commit(SESSION, 2)

        assert await take(following, 2) == [2, 3]


async def test_repeated_and_overlapping_announcements_repeat_nothing(log: Log, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        first = await writer.say(SESSION, 2)
        await writer.announce(first)
        second = await writer.commit(SESSION, 2)
        await writer.announce([*first, *second])
        await writer.announce(second)
        await writer.say(SESSION)

        assert await take(following, 5) == [1, 2, 3, 4, 5]


async def test_a_malformed_announcement_sends_us_to_the_log(log: Log, bus: Bus, writer: Any) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION)
        assert await take(following, 1) == [1]
        await writer.commit(SESSION)

        await bus.announce(committed_subject("default", SESSION), b"{")

        assert await take(following, 1) == [2]


async def test_another_tenant_sees_nothing(log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_session, "SAFETY_LOOK_SECONDS", 0.05)
    async with aclosing(log.follow_session("stranger", SESSION)) as following:
        await writer.say(SESSION, 3)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(following), 0.3)


async def test_more_history_than_a_page_comes_whole(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_session, "PAGE", 10)
    await writer.commit(SESSION, 35)

    async with aclosing(log.follow_session("default", SESSION)) as following:
        assert await take(following, 35) == list(range(1, 36))


async def test_postgres_away_is_waited_for_and_skips_nothing(
    postgres_server: Postgres, log: Log, writer: Any
) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION)
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


async def test_announcements_flow_while_postgres_is_away(
    postgres_server: Postgres, log: Log, writer: Any
) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION)
        assert await take(following, 1) == [1]
        next_one = await writer.commit(SESSION)
        postgres_server.stop()

        await writer.announce(next_one)

        assert await take(following, 1) == [2]
        postgres_server.start()


async def test_history_is_read_while_the_bus_is_away(
    nats_server: NatsServer, log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.chassis.bus.connection.API_DEADLINE_SECONDS", 0.2)
    await writer.commit(SESSION, 2)
    nats_server.stop()

    async with aclosing(log.follow_session("default", SESSION)) as following:
        assert await take(following, 2) == [1, 2]
        nats_server.start()
        await writer.commit(SESSION)
        assert await take(following, 1) == [3]


async def test_a_broker_restart_in_the_middle_loses_nothing(
    nats_server: NatsServer, log: Log, writer: Any
) -> None:
    async with aclosing(log.follow_session("default", SESSION)) as following:
        await writer.say(SESSION, 2)
        assert await take(following, 2) == [1, 2]

        nats_server.kill()
        await writer.say(SESSION, 2)
        nats_server.start()
        await writer.say(SESSION)

        assert await take(following, 3) == [3, 4, 5]


@pytest.mark.parametrize("seed", range(3))
async def test_leaving_at_any_moment_leaves_nothing_behind(log: Log, bus: Bus, seed: int) -> None:
    assert isinstance(bus, NatsBus)
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
async def test_any_mixture_of_losses_arrives_complete_and_in_order(
    log: Log, writer: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_session, "SAFETY_LOOK_SECONDS", 0.2)
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
