"""Concurrent publishes share batches; each caller gets its own answer."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from antiphon.chassis.bus import Ack, Bus, BusUnavailable, GroupCommit, Outgoing, PayloadTooLarge
from antiphon.chassis.testing import InMemoryBus
from antiphon.contracts.subjects import session_filter

SESSION = "ses_00000000000000000000000001"

MessageOf = Callable[..., Outgoing]


class CountingBus(InMemoryBus):
    """Count the flights, and let a test hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: list[int] = []
        self.may_fly = asyncio.Event()
        self.may_fly.set()

    async def publish_many(self, outs: Sequence[Outgoing], *, timeout_seconds: float = 1) -> list[Ack]:
        self.flights.append(len(outs))
        await self.may_fly.wait()
        return await super().publish_many(outs, timeout_seconds=timeout_seconds)


async def test_each_caller_gets_its_own_position(any_bus: Bus, message: MessageOf) -> None:
    group = GroupCommit(any_bus)

    acks = await asyncio.gather(*(group.publish(message(number)) for number in range(2500)))

    assert [ack.position for ack in acks] == list(range(1, 2501))
    stored = [incoming.payload async for incoming in any_bus.read(session_filter("default", SESSION))]
    assert stored == [b"%d" % number for number in range(2500)]


async def test_what_comes_during_a_flight_makes_the_next(message: MessageOf) -> None:
    bus = CountingBus()
    group = GroupCommit(bus, few=1)
    bus.may_fly.clear()
    first = [asyncio.create_task(group.publish(message(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(group.publish(message(number))) for number in range(3, 8)]
    await asyncio.sleep(0)

    bus.may_fly.set()
    await asyncio.gather(*first, *later)

    assert bus.flights == [3, 5]


async def test_a_few_go_side_by_side_and_many_as_one_batch(message: MessageOf) -> None:
    bus = CountingBus()
    group = GroupCommit(bus, few=4)

    few = await asyncio.gather(*(group.publish(message(number)) for number in range(4)))
    many = await asyncio.gather(*(group.publish(message(number)) for number in range(4, 9)))

    assert [ack.position for ack in (*few, *many)] == list(range(1, 10))
    assert bus.flights == [5]


@pytest.mark.parametrize("few", [1, 3])
async def test_a_duplicate_among_others_is_told_to_its_caller(
    few: int, any_bus: Bus, message: MessageOf
) -> None:
    group = GroupCommit(any_bus, few=few)
    await group.publish(message(2))

    acks = await asyncio.gather(*(group.publish(message(number)) for number in (1, 2, 3)))

    assert [ack.duplicate for ack in acks] == [False, True, False]


@pytest.mark.parametrize("few", [1, 3])
async def test_one_that_is_too_large_fails_alone(few: int, any_bus: Bus, message: MessageOf) -> None:
    group = GroupCommit(any_bus, few=few)

    results = await asyncio.gather(
        group.publish(message(1)),
        group.publish(message(2, size=2 << 20)),
        group.publish(message(3)),
        return_exceptions=True,
    )

    assert isinstance(results[0], Ack)
    assert isinstance(results[1], PayloadTooLarge)
    assert isinstance(results[2], Ack)


@pytest.mark.parametrize("few", [1, 3])
async def test_a_broker_away_fails_every_caller_and_the_next_flight_works(
    few: int, message: MessageOf
) -> None:
    bus = InMemoryBus()
    group = GroupCommit(bus, few=few)
    bus.away = True

    results = await asyncio.gather(
        *(group.publish(message(number)) for number in range(3)), return_exceptions=True
    )

    assert [type(result) for result in results] == [BusUnavailable] * 3
    bus.away = False
    assert (await group.publish(message(4))).position == 1


async def test_a_caller_that_gave_up_harms_nobody(message: MessageOf) -> None:
    bus = CountingBus()
    group = GroupCommit(bus, few=1)
    bus.may_fly.clear()
    callers = [asyncio.create_task(group.publish(message(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers[1].cancel()
    bus.may_fly.set()

    with pytest.raises(asyncio.CancelledError):
        await callers[1]
    assert (await callers[0]).position == 1
    assert (await callers[2]).position == 3
