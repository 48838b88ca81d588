"""The set of partitions of one loop: it grows and shrinks between two batches."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from antiphon.persistence.errors import Fenced
from antiphon.persistence.leases.owned import OwnedPartitions


class Owners:
    """Leases that a test grants and ends, each owned as `run_while_leased` does it."""

    def __init__(self) -> None:
        self.owned = OwnedPartitions()
        self.ended: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def grant(self, *partitions: int) -> None:
        for partition in partitions:
            self.ended[partition] = asyncio.Event()
            self.tasks[partition] = asyncio.create_task(self.owned.own(partition, self.ended[partition]))
        await asyncio.wait_for(self.owned.changed.wait(), 60)

    async def end(self, partition: int) -> None:
        """End a lease, and wait until the loop is told."""
        self.ended[partition].set()
        await asyncio.wait_for(self.owned.changed.wait(), 60)


def take(owners: Owners) -> tuple[set[int], set[int]]:
    partitions, new = owners.owned.take()
    return set(partitions), set(new)


@pytest.fixture
async def owners() -> AsyncIterator[Owners]:
    owners = Owners()
    yield owners
    for task in owners.tasks.values():
        task.cancel()
    await asyncio.gather(*owners.tasks.values(), return_exceptions=True)


async def test_new_partitions_are_named_once(owners: Owners) -> None:
    await owners.grant(1, 2)
    assert take(owners) == ({1, 2}, {1, 2})
    assert not owners.owned.changed.is_set()

    await owners.grant(3)
    assert take(owners) == ({1, 2, 3}, {3})


async def test_a_partition_is_released_when_the_loop_has_let_it_go(owners: Owners) -> None:
    await owners.grant(1, 2)
    owners.owned.take()
    await owners.end(1)
    await asyncio.sleep(0.05)
    assert not owners.tasks[1].done(), "the loop may still be in a batch"

    assert take(owners) == ({2}, set())
    await asyncio.wait_for(owners.tasks[1], 60)
    assert not owners.tasks[2].done()


async def test_a_fenced_partition_leaves_the_set_and_is_new_when_it_is_owned_again(owners: Owners) -> None:
    await owners.grant(1, 2)
    owners.owned.take()
    owners.owned.fenced(Fenced("taken over"), [1])
    assert owners.owned.changed.is_set()
    assert take(owners) == ({2}, set())
    with pytest.raises(Fenced, match="taken over"):
        await asyncio.wait_for(owners.tasks[1], 60)

    await owners.grant(1)
    assert take(owners) == ({1, 2}, {1})


async def test_a_partition_whose_release_was_abandoned_is_new_when_it_is_owned_again(owners: Owners) -> None:
    await owners.grant(1)
    owners.owned.take()
    await owners.end(1)
    owners.tasks[1].cancel()
    await asyncio.gather(owners.tasks[1], return_exceptions=True)

    await owners.grant(1)
    assert take(owners) == ({1}, {1})


async def test_a_loop_that_has_ended_holds_nothing_back(owners: Owners) -> None:
    await owners.grant(1)
    owners.owned.take()
    owners.owned.close()
    await owners.grant(2)
    for partition in (1, 2):
        owners.ended[partition].set()
        await asyncio.wait_for(owners.tasks[partition], 60)


async def test_a_partition_that_is_not_owned_is_not_fenced(owners: Owners) -> None:
    owners.owned.fenced(Fenced("late"), [5])
    assert take(owners) == (set(), set())
