"""Work is done while its lease is held, and begun again when it was taken away."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from antiphon.persistence.condition import Condition, NotReady
from antiphon.persistence.keep import Fenced, keep
from antiphon.persistence.lease import Lease, Leases

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually


class Work:
    """Count how often it began, and note how it ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.finished = 0
        self.began = asyncio.Event()
        self.fail: Exception | None = None

    async def __call__(self, stop: asyncio.Event) -> None:
        self.begun += 1
        self.began.set()
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        await stop.wait()
        self.finished += 1


class Kept:
    """One piece of work, its lease in the test's hands."""

    def __init__(self) -> None:
        self.leases = Leases("postgresql://nowhere")
        self.work = Work()
        self.condition = Condition()
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(keep(self.leases, "work", self.work, self.condition, self.stop))

    async def ready(self) -> bool:
        """Tell whether it says that it is."""
        try:
            await self.condition.check()
        except NotReady:
            return False
        return True

    async def lease(self) -> Lease:
        """Return the lease that is being waited for."""
        async with asyncio.timeout(5):
            while not self.leases._waiting:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
        return self.leases._waiting[-1]

    async def grant(self) -> Lease:
        """Give it the lease."""
        lease = await self.lease()
        self.leases._waiting.remove(lease)
        self.leases._held.append(lease)
        lease.asked.set()
        lease.held.set()
        await asyncio.wait_for(self.work.began.wait(), 5)
        self.work.began.clear()
        return lease


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    kept = Kept()
    yield kept
    kept.stop.set()
    await asyncio.wait_for(kept.task, 5)


async def test_before_the_lease_was_asked_for_it_is_not_ready_and_a_standby_is(
    kept: Kept, eventually: "Eventually"
) -> None:
    lease = await kept.lease()
    with pytest.raises(NotReady):
        await kept.condition.check()

    lease.asked.set()
    await eventually(kept.ready)
    assert kept.work.begun == 0


async def test_work_whose_lease_is_lost_is_stopped_gracefully_and_asks_again(kept: Kept) -> None:
    lease = await kept.grant()
    lease.lost.set()
    await kept.grant()

    assert (kept.work.begun, kept.work.finished) == (2, 1)


async def test_fenced_work_gives_its_lease_up_and_asks_again(kept: Kept) -> None:
    kept.work.fail = Fenced("taken over")
    lease = await kept.grant()
    await kept.grant()

    assert lease not in kept.leases._held
    assert kept.work.begun == 2


async def test_the_order_to_stop_ends_work_and_waiting(kept: Kept) -> None:
    await kept.grant()
    kept.stop.set()
    await asyncio.wait_for(kept.task, 5)

    assert kept.work.finished == 1
    assert kept.leases._held == []


async def test_a_fault_in_the_work_is_not_hidden() -> None:
    kept = Kept()
    kept.work.fail = ValueError("a bug")
    await kept.grant()

    with pytest.raises(ValueError, match="a bug"):
        await asyncio.wait_for(kept.task, 5)
