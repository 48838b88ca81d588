"""Pulls are limited in bytes, for large messages and slow connections."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antiphon.chassis.bus import Bus, Incoming, Outgoing
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import partition_of

SESSION = "ses_00000000000000000000000001"
CONSUMER = ingest_consumer(partition_of(SESSION))

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_pulls_and_batches_of_large_messages_are_bounded_in_bytes(bus: Bus, message: MessageOf) -> None:
    for first in range(0, 300, 10):
        await bus.publish_many([message(number, size=100_000) for number in range(first, first + 10)])
    sizes: list[int] = []
    buffered: list[int] = []

    async with bus.pull(CONSUMER) as puller:
        limit = puller._max_bytes
        received: list[Incoming] = []
        async with asyncio.timeout(60):
            while len(received) < 300:
                batch = await puller.next()
                received += batch
                sizes.append(sum(len(incoming.payload) for incoming in batch))
                buffered.append(puller._deliveries.bytes)
                await asyncio.sleep(0.02)  # more arrives meanwhile, if it may
                buffered.append(puller._deliveries.bytes)
                await puller.ack_through(received[-1])

    assert [incoming.payload.strip() for incoming in received] == [b"%d" % n for n in range(300)]
    assert max(sizes) <= limit < 2 << 20
    assert max(buffered) <= 4 * limit
    assert len(sizes) < 100  # and it does not pull them one by one


async def test_a_message_of_the_largest_size_is_pulled(bus: Bus, message: MessageOf) -> None:
    largest = bus.connection.client.max_payload - 500
    await bus.publish(message(1, size=largest))
    await bus.publish(message(2, size=largest))

    async with bus.pull(CONSUMER) as puller, asyncio.timeout(60):
        received: list[Incoming] = []
        while len(received) < 2:
            received += await puller.next()

    assert [incoming.payload.strip() for incoming in received] == [b"1", b"2"]


async def test_a_message_larger_than_a_pull_is_pulled_by_a_larger_one(bus: Bus, message: MessageOf) -> None:
    await bus.publish(message(1, size=200_000))

    async with bus.pull(CONSUMER) as puller, asyncio.timeout(60):
        puller._max_bytes = 50_000  # as for a message from a time when the server allowed more
        [incoming] = await puller.next()

    assert len(incoming.payload) == 200_000


async def test_a_pull_that_reaches_its_limits_is_not_refused(
    bus: Bus, message: MessageOf, caplog: pytest.LogCaptureFixture
) -> None:
    """A backoff after each full pull would slow ingest down."""
    for first in range(0, 3000, 1000):
        await bus.publish_many([message(number) for number in range(first, first + 1000)])
    for number in range(3000, 3040):
        await bus.publish(message(number, size=100_000))

    with caplog.at_level("INFO"):
        async with bus.pull(CONSUMER) as puller, asyncio.timeout(60):
            received: list[Incoming] = []
            while len(received) < 3040:
                received += await puller.next()

    assert "pull.refused" not in caplog.text
    assert "pull.stalled" not in caplog.text


async def test_a_pull_whose_messages_are_on_their_way_is_not_lost(
    bus: Bus, message: MessageOf, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pulls would overload a slow connection."""
    async with bus.pull(CONSUMER) as puller:
        await until(lambda: puller._outstanding > 0)
        round_trip = bus.connection.round_trip

        async def slow() -> None:
            await bus.publish(message(1))
            await until(lambda: puller.buffered == 1)
            await round_trip()

        with monkeypatch.context() as slowly:
            slowly.setattr(bus.connection, "round_trip", slow)
            await puller._check_stalled()
        assert puller._outstanding > 0

        await puller._check_stalled()  # nothing arrived before the answer
        assert puller._outstanding == 0
