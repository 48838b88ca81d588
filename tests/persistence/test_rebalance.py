"""Replicas come and go: shares differ by one at most; a partition that does not move is not claimed again."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.locks import INGEST, holders, lease_name, projection_group
from antiphon.persistence.projections import PROJECTIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        Replica,
        Replicas,
        SampleSession,
    )

pytestmark = pytest.mark.slow

SECONDS = 60.0
VIEWS = {view.name: projection_group(view.name, view.version) for view in PROJECTIONS}
GROUPS = (INGEST, *VIEWS.values())
PROCESS = re.compile(r":(\d+) from ")

Owners = dict[str, int]  # lease -> process id


class Shares:
    """Who owns each partition of each group, as Postgres says, and with which epoch."""

    def __init__(self, database: Database, eventually: "Eventually") -> None:
        self._pool = database.pool
        self._eventually = eventually
        self.owners: Owners = {}
        self.epochs: dict[str, int] = {}

    async def settle(self, replicas: Iterable["Replica"]) -> Owners:
        """Wait until the replicas share each group fairly; return the owners before."""
        pids, before = {replica.process.pid for replica in replicas}, self.owners

        async def fair() -> bool:
            self.owners = await self._owners()
            return all(self._is_fair(group, pids) for group in GROUPS)

        await self._eventually(fair, SECONDS)
        return before

    async def moved(self, before: Owners) -> set[str]:
        """Return the leases that moved; wait until their owners have claimed them, and nothing else was."""
        moved = {lease for lease, owner in self.owners.items() if before.get(lease) != owner}
        known = self.epochs

        async def claimed() -> bool:
            self.epochs = await self._epochs()
            return {lease for lease, epoch in self.epochs.items() if known.get(lease, 0) != epoch} >= moved

        await self._eventually(claimed, SECONDS)
        unmoved = self.epochs.keys() - moved
        assert {lease: self.epochs[lease] for lease in unmoved} == {lease: known[lease] for lease in unmoved}
        return moved

    def _is_fair(self, group: str, pids: set[int]) -> bool:
        owned = Counter(self.owners.get(lease_name(group, number), 0) for number in range(PARTITIONS))
        return set(owned) == pids and max(owned.values()) - min(owned.values()) <= 1

    async def _owners(self) -> Owners:
        names = [lease_name(group, number) for group in GROUPS for number in range(PARTITIONS)]
        async with self._pool.acquire() as connection:
            found = await holders(connection, names)
        return {name: int(match[1]) for name, who in found.items() if (match := PROCESS.search(who))}

    async def _epochs(self) -> dict[str, int]:
        ingest = await self._pool.fetch("select name, epoch from checkpoints")
        views = await self._pool.fetch("select projection, partition, epoch from projection_checkpoints")
        return {str(name): int(epoch) for name, epoch in ingest} | {
            lease_name(VIEWS[view], partition): epoch for view, partition, epoch in views
        }


@pytest.fixture
def shares(database: Database, eventually: "Eventually") -> Shares:
    return Shares(database, eventually)


async def test_partitions_follow_the_replicas_and_those_that_stay_do_not_pause(
    bus: Bus,
    shares: Shares,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    calls = one_of_each_partition(new_session)
    published = 0

    async def every_partition_works() -> None:
        nonlocal published
        published += 1
        await publish(call.turn(published) for call in calls)
        await event_log.until(published * PARTITIONS, SECONDS)

    first, second, third = (replica() for _ in range(3))
    await first.start()
    await first.until_ready(SECONDS)  # it builds the views first
    assert await shares.moved(await shares.settle([first])) == set(shares.owners)
    await every_partition_works()

    await second.start()
    assert len(await shares.moved(await shares.settle([first, second]))) == 8 * len(GROUPS)
    await every_partition_works()

    await third.start()
    assert len(await shares.moved(await shares.settle([first, second, third]))) in range(
        5 * len(GROUPS), 6 * len(GROUPS) + 1
    )
    await every_partition_works()

    left = {lease for lease, owner in shares.owners.items() if owner == second.process.pid}
    assert await second.end(signal.SIGTERM, SECONDS) == 0
    assert await shares.moved(await shares.settle([first, third])) == left
    await every_partition_works()

    for call in calls:
        assert len(await event_log.events(call.session_id)) == published
    logs = "".join(each.log.read_text() for each in (first, second, third))
    assert "lease.fenced" not in logs
    assert "lease.work_abandoned" not in logs
    assert "leases.lost" not in logs


async def test_a_graceful_stop_has_handed_over_before_the_process_ends(
    bus: Bus, shares: Shares, replica: "Replicas"
) -> None:
    first, second = replica(), replica()
    await first.start()
    await second.start()
    await shares.settle([first, second])

    await second.end(signal.SIGTERM, SECONDS)
    log = second.log.read_text()
    assert "lease.work_abandoned" not in log
    await shares.settle([first])
    # the other one was notified: it did not have to find out that a session is gone
    assert "leases.left" in log


def one_of_each_partition(new_session: "NewSession") -> list["SampleSession"]:
    found: dict[int, SampleSession] = {}
    for number in range(10_000):
        session = new_session(f"rebalance {number}")
        found.setdefault(session.partition, session)
        if len(found) == PARTITIONS:
            break
    return list(found.values())


async def test_a_replica_that_starts_while_another_ends_gets_its_share(
    bus: Bus, shares: Shares, replica: "Replicas"
) -> None:
    first, second, third = (replica() for _ in range(3))
    await first.start()
    await second.start()
    await shares.settle([first, second])

    await asyncio.gather(second.end(signal.SIGTERM, SECONDS), third.start())
    await shares.settle([first, third])
