"""Concurrent publishes share batches; each caller gets its own ack or error."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from antiphon.chassis.bus import Ack, Bus, BusUnavailable, GroupCommit, Outgoing, PayloadTooLarge
from antiphon.chassis.bus.publish import Refused
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.subjects import session_filter

SESSION = "ses_00000000000000000000000001"

MessageOf = Callable[..., Outgoing]


class HeldBus(Bus):
    """A bus that counts the messages of each batch, and holds batches until a test releases them."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus.connection)
        self.batches: list[int] = []
        self.released = asyncio.Event()

    async def publish_many(self, outs: Sequence[Outgoing], *, timeout_seconds: float = 1) -> list[Ack]:
        self.batches.append(len(outs))
        await self.released.wait()
        return await super().publish_many(outs, timeout_seconds=timeout_seconds)


async def test_each_caller_gets_its_own_position(bus: Bus, message: MessageOf) -> None:
    group = GroupCommit(bus)

    acks = await asyncio.gather(*(group.publish(message(number)) for number in range(2500)))

    assert [ack.position for ack in acks] == list(range(1, 2501))
    stored = [incoming.payload async for incoming in bus.read(session_filter("default", SESSION))]
    assert stored == [b"%d" % number for number in range(2500)]


async def test_messages_that_arrive_during_a_commit_form_the_next_group(bus: Bus, message: MessageOf) -> None:
    held = HeldBus(bus)
    group = GroupCommit(held, max_concurrent=1)
    first = [asyncio.create_task(group.publish(message(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(group.publish(message(number))) for number in range(3, 8)]
    await asyncio.sleep(0)

    held.released.set()
    await asyncio.gather(*first, *later)

    assert held.batches == [3, 5]


async def test_small_groups_are_published_concurrently_and_large_ones_as_a_batch(
    bus: Bus, message: MessageOf
) -> None:
    held = HeldBus(bus)
    held.released.set()
    group = GroupCommit(held, max_concurrent=4)

    small = await asyncio.gather(*(group.publish(message(number)) for number in range(4)))
    large = await asyncio.gather(*(group.publish(message(number)) for number in range(4, 9)))

    assert [ack.position for ack in (*small, *large)] == list(range(1, 10))
    assert held.batches == [5]


async def test_few_messages_do_not_wait_for_those_in_flight(bus: Bus, message: MessageOf) -> None:
    held = HeldBus(bus)
    group = GroupCommit(held, max_concurrent=4)
    inside: list[str] = []
    together = asyncio.Event()

    async def publish(out: Outgoing, **_: object) -> Ack:
        inside.append(str(out.message_id))
        if len(inside) == 3:
            together.set()
        await together.wait()
        return Ack(1, duplicate=False)

    held.publish = publish  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        callers = []
        for number in range(3):
            callers.append(asyncio.create_task(group.publish(message(number))))
            while len(inside) <= number:  # noqa: ASYNC110 - a few steps of the loop
                await asyncio.sleep(0)
        await asyncio.gather(*callers)

    assert held.batches == []


@pytest.mark.parametrize("max_concurrent", [1, 3])
async def test_a_duplicate_in_a_group_is_marked_for_its_caller(
    max_concurrent: int, bus: Bus, message: MessageOf
) -> None:
    group = GroupCommit(bus, max_concurrent=max_concurrent)
    await group.publish(message(2))

    acks = await asyncio.gather(*(group.publish(message(number)) for number in (1, 2, 3)))

    assert [ack.duplicate for ack in acks] == [False, True, False]


@pytest.mark.parametrize("max_concurrent", [1, 3])
async def test_a_message_that_is_too_large_fails_alone(
    max_concurrent: int, bus: Bus, message: MessageOf
) -> None:
    group = GroupCommit(bus, max_concurrent=max_concurrent)

    results = await asyncio.gather(
        group.publish(message(1)),
        group.publish(message(2, size=2 << 20)),
        group.publish(message(3)),
        return_exceptions=True,
    )

    assert isinstance(results[0], Ack)
    assert isinstance(results[1], PayloadTooLarge)
    assert isinstance(results[2], Ack)


@pytest.mark.parametrize("max_concurrent", [1, 3])
async def test_a_message_that_the_server_refuses_fails_its_own_caller(
    max_concurrent: int, bus: Bus, message: MessageOf
) -> None:
    group = GroupCommit(bus, max_concurrent=max_concurrent)
    refused = Outgoing(message(2).subject, b"2", "2", {"Nats-Expected-Last-Sequence": "99"})

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            group.publish(message(1)),
            group.publish(refused),
            group.publish(message(3)),
            return_exceptions=True,
        )

    assert [type(result) for result in results] == [Ack, Refused, Ack]
    assert "wrong last sequence" in str(results[1])
    assert (await group.publish(message(4))).position > 0


@pytest.mark.parametrize("max_concurrent", [1, 3])
async def test_an_outage_fails_every_caller_and_later_commits_succeed(
    max_concurrent: int, nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    group = GroupCommit(bus, max_concurrent=max_concurrent, timeout_seconds=0.3)
    nats_server.stop()

    results = await asyncio.gather(
        *(group.publish(message(number)) for number in range(3)), return_exceptions=True
    )

    assert [type(result) for result in results] == [BusUnavailable] * 3
    nats_server.start()
    await bus.ready(timeout_seconds=10)
    ack = await group.publish(message(4))
    last = await bus.last(session_filter("default", SESSION))
    assert last is not None
    assert (last.payload, last.position) == (b"4", ack.position)


async def test_a_cancelled_caller_does_not_affect_the_others(bus: Bus, message: MessageOf) -> None:
    held = HeldBus(bus)
    group = GroupCommit(held, max_concurrent=1)
    callers = [asyncio.create_task(group.publish(message(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers[1].cancel()
    held.released.set()

    with pytest.raises(asyncio.CancelledError):
        await callers[1]
    assert (await callers[0]).position == 1
    assert (await callers[2]).position == 3


async def test_a_cancelled_commit_leaves_no_caller_waiting(bus: Bus, message: MessageOf) -> None:
    group = GroupCommit(HeldBus(bus), max_concurrent=1)
    callers = [asyncio.create_task(group.publish(message(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert group._batch is not None
    group._batch.cancel()

    async with asyncio.timeout(60):
        results = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(result) for result in results] == [asyncio.CancelledError] * 3
