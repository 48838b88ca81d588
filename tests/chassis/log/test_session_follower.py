"""A follower can be woken from its one wait, and needs no subscription for what is committed already."""

import asyncio
from typing import Any

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log, SessionFollower, sequence_of, session_follower
from antiphon.cli.stack.nats import NatsServer

SESSION = "ses_00000000000000000000000001"


async def _take(follower: SessionFollower, count: int) -> list[int]:
    taken: list[int] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            taken += map(sequence_of, await follower.next(5.0))
    return taken


async def test_a_wait_ends_when_it_is_woken(database: Database, bus: Bus, writer: Any) -> None:
    await writer.commit(SESSION)
    follower = Log(database, bus).follower("default", SESSION)
    assert await _take(follower, 1) == [1]

    async with asyncio.timeout(60):
        waiting = asyncio.create_task(follower.next(3600.0))
        await asyncio.sleep(0.1)
        follower.wake()
        assert await waiting == ()
        follower.wake()
        assert await follower.next(3600.0) == ()

    await writer.commit_and_announce(SESSION)
    assert await _take(follower, 1) == [2]
    await follower.close()


async def test_followers_of_a_session_share_what_was_announced(
    database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION)
    followers = [Log(database, bus).follower("default", SESSION) for _ in range(3)]
    for follower in followers:
        await _take(follower, 1)

    await writer.commit_and_announce(SESSION, 2)
    async with asyncio.timeout(60):
        received = [await follower.next(60.0) for follower in followers]

    assert all(announced is received[0] for announced in received)
    assert [sequence_of(envelope) for envelope in received[0]] == [2, 3]
    for follower in followers:
        await follower.close()


async def test_what_is_committed_is_read_without_the_broker(
    database: Database, bus: Bus, writer: Any, nats_server: NatsServer
) -> None:
    await writer.commit(SESSION, 3)
    nats_server.stop()
    follower = Log(database, bus).follower("default", SESSION, announced=False)

    before = follower.behind
    assert await _take(follower, 3) == [1, 2, 3]
    assert (before, follower.behind) == (True, False)
    assert await follower.next(1.0) == ()
    await follower.close()
    nats_server.start()


async def test_a_step_is_bounded_in_bytes(
    database: Database, bus: Bus, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_follower, "STEP_BYTES", 10_000)
    await writer.commit(SESSION, 12, size=4_000)
    follower = Log(database, bus).follower("default", SESSION, announced=False)
    steps: list[list[int]] = []

    while follower.behind:
        steps.append([sequence_of(envelope) for envelope in await follower.next(1.0)])

    assert [number for step in steps for number in step] == list(range(1, 13))
    assert max(map(len, steps)) == 3
    await follower.close()
