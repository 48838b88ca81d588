"""The work of a group: called for each lease, ended with it, called again after it was fenced."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from antiphon.persistence.errors import Fenced, NotReady
from antiphon.persistence.leases import work as leased_work
from antiphon.persistence.leases.connection import Leases
from antiphon.persistence.leases.group import LeaseGroup
from antiphon.persistence.leases.work import run_while_leased
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

ME = 7


class LeasedWork:
    """Work of a group whose locks the test hands out, without Postgres."""

    def __init__(self) -> None:
        self.leases = Leases("postgresql://nowhere")
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        self.begun: list[int] = []
        self.finished: list[int] = []
        self.error: Exception | None = None
        self.hangs = False
        self.task = asyncio.create_task(
            run_while_leased(self.leases, "work", self.work, self.readiness, self.stop, partitions=4)
        )

    async def work(self, partition: int, ended: asyncio.Event) -> None:
        self.begun.append(partition)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        await ended.wait()
        if self.hangs:
            await asyncio.Event().wait()
        self.finished.append(partition)

    async def group(self) -> LeaseGroup:
        """Return the group once it was joined."""
        await asyncio.sleep(0)
        return self.leases._groups["work"]

    async def grant(self, *partitions: int) -> None:
        """Hand out leases and wait until the work has begun."""
        group, before = await self.group(), len(self.begun)
        group.taken(ME, partitions)
        async with asyncio.timeout(60):
            while len(self.begun) < before + len(partitions):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)

    async def ready(self) -> bool:
        try:
            await self.readiness.check()
        except NotReady:
            return False
        return True


@pytest.fixture
async def leased(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LeasedWork]:
    monkeypatch.setattr(leased_work, "LEAVE_SECONDS", 0.1)  # there is no connection that would leave
    leased = LeasedWork()
    yield leased
    leased.stop.set()
    await asyncio.wait_for(asyncio.gather(leased.task, return_exceptions=True), 60)


async def test_a_replica_that_holds_nothing_is_ready_once_it_has_looked(
    leased: LeasedWork, eventually: "Eventually"
) -> None:
    group = await leased.group()
    assert not await leased.ready()

    group.observe(ME, [ME, *range(100, 105)], dict.fromkeys(range(4), 100))
    await eventually(leased.ready)
    assert leased.begun == []


async def test_a_lost_lease_ends_the_work_gracefully_and_is_taken_again(
    leased: LeasedWork, eventually: "Eventually"
) -> None:
    await leased.grant(0, 1)
    group = await leased.group()
    group.lose_all()

    async def wanted() -> bool:
        return set(group.observe(ME, [ME], {})) == {0, 1, 2, 3}

    await eventually(wanted)
    assert sorted(leased.finished) == [0, 1]
    assert group.released == [], "its locks are gone with the connection"


async def test_a_partition_is_not_taken_again_while_its_work_has_not_ended(leased: LeasedWork) -> None:
    await leased.grant(0, 1)
    group = await leased.group()
    leased.hangs = True
    group.lose_all()

    assert set(group.observe(ME, [ME], {})) == {2, 3}
    leased.task.cancel()


async def test_the_surplus_is_given_up_and_released_when_its_work_has_ended(
    leased: LeasedWork, eventually: "Eventually"
) -> None:
    await leased.grant(0, 1, 2, 3)
    group = await leased.group()
    mine = dict.fromkeys(range(4), ME)
    assert group.observe(ME, [ME, 100], mine) == []
    assert group.released == []

    async def released() -> bool:
        return sorted(group.released) == sorted(leased.finished) == [2, 3]

    await eventually(released)


async def test_fenced_work_releases_its_lease_and_waits_before_it_takes_it_again(
    leased: LeasedWork, eventually: "Eventually"
) -> None:
    leased.error = Fenced("taken over")
    await leased.grant(2)
    group = await leased.group()

    async def released() -> bool:
        return group.released == [2]

    await eventually(released)
    assert set(group.observe(ME, [ME], {})) == {0, 1, 3}

    async def wanted() -> bool:
        return 2 in group.observe(ME, [ME], {})

    await eventually(wanted)


async def test_stop_ends_the_work_and_releases_every_lease(leased: LeasedWork) -> None:
    await leased.grant(0, 1, 2, 3)
    group = await leased.group()
    leased.stop.set()
    await asyncio.wait_for(leased.task, 60)

    assert sorted(leased.finished) == [0, 1, 2, 3]
    assert sorted(group.released) == [0, 1, 2, 3]
    assert group.leaving
    assert await leased.ready()


async def test_work_that_does_not_end_is_abandoned(
    leased: LeasedWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased_work, "FINISH_SECONDS", 0.1)
    leased.hangs = True
    await leased.grant(0)
    leased.stop.set()
    await asyncio.wait_for(leased.task, 60)

    assert (leased.finished, (await leased.group()).released) == ([], [0])


async def test_leases_that_were_taken_while_it_left_are_released(leased: LeasedWork) -> None:
    await leased.grant(0)
    group = await leased.group()
    group.leave()
    group.taken(ME, [1])

    assert leased.begun == [0]
    assert 1 in group.released


async def test_an_error_of_the_work_is_raised(leased: LeasedWork) -> None:
    leased.error = ValueError("a bug")
    await leased.grant(0)

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="a bug")):
        await asyncio.wait_for(leased.task, 60)
