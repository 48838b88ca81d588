"""Streams of events that real ingests commit, while one takes partitions over from the other."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.persistence.conftest import RunningIngest, SampleSession
from tests.session_api.conftest import Running
from tests.session_api.feed.conftest import assert_each_once_in_order, streaming

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database

ROUNDS = 6


@pytest.fixture
async def ingests(bus: Bus, database: Database) -> AsyncIterator[list[RunningIngest]]:
    """Two replicas of ingest, whose loops the test starts."""
    replicas = [RunningIngest(bus, database), RunningIngest(bus, database)]
    yield replicas
    for replica in replicas:
        await replica.end()


async def test_partitions_change_their_owner_while_they_are_read(
    running: Running, bus: Bus, ingests: list[RunningIngest]
) -> None:
    sessions = [SampleSession(f"s{number}") for number in range(8)]
    partitions = sorted({session.partition for session in sessions})
    ingests[0].start(*partitions)
    expected: list[tuple[str, int]] = []
    async with streaming(running.url) as one, streaming(running.url, type="turn.saved") as turns:
        for number in range(ROUNDS):
            for session in sessions:
                for _ in range(3):
                    await bus.publish(outgoing(session.turn(session.sealed + 1)))
                    expected.append((session.session_id, session.sealed))
            if number in (1, 3):  # the other replica fences the owner, in the middle of its work
                ingests[number == 1].restart(*partitions)
            await asyncio.sleep(0.2)
        found = await one.take(len(expected))
        of_turns = await turns.take(len(expected))

    assert_each_once_in_order([each.key for each in found], expected)
    assert_each_once_in_order([each.key for each in of_turns], expected)
