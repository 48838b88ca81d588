"""A group of leases in one replica: what it holds, what is its share, and who holds the rest."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby

import structlog

from antiphon.chassis.retry import FIRST_SECONDS, LONGEST_SECONDS
from antiphon.persistence.leases import fair_share
from antiphon.persistence.leases.locks import lease_name

log = structlog.get_logger(__name__)

NOBODY = "nobody yet"


class Lease:
    """A lease that this replica has; its work ends when `ended` is set."""

    def __init__(self, group: str, partition: int) -> None:
        self.name = lease_name(group, partition)
        self.partition = partition
        self.ended = asyncio.Event()
        self.lost = False  # with its connection


class LeaseGroup:
    """The leases of one group. The work takes them with `next`; `connection.Leases` keeps the locks."""

    def __init__(
        self, name: str, partitions: int, changed: asyncio.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.partitions = partitions
        self.seen = asyncio.Event()  # a look at the locks: what is free is taken, the rest has a holder
        self.left = asyncio.Event()  # every lock is released
        self.leaving = False
        self.released: list[int] = []  # partitions whose locks are to be released
        self.share = 0
        self._leases: dict[int, Lease] = {}  # in the order of acquisition, until their work has ended
        self._new: list[Lease] = []  # whose work has not begun
        self._arrived = asyncio.Event()
        self._members = 0
        self._holders: dict[int, int] = {}  # the backend that holds a partition
        self._fenced: dict[int, int] = {}  # how often in a row
        self._not_before: dict[int, float] = {}
        self._changed = changed
        self._clock = clock

    async def next(self) -> Lease:
        """Wait for a lease and return it; the caller releases it when its work has ended."""
        while not self._new:
            self._arrived.clear()
            await self._arrived.wait()
        return self._new.pop(0)

    def release(self, lease: Lease, *, fenced: bool = False) -> None:
        """Release a lease whose work has ended; after it was fenced, try it again after a backoff."""
        if self._leases.get(lease.partition) is not lease:
            return
        del self._leases[lease.partition]
        if fenced:
            attempt = self._fenced[lease.partition] = self._fenced.get(lease.partition, 0) + 1
            longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(attempt, 10))
            self._not_before[lease.partition] = self._clock() + random.uniform(FIRST_SECONDS / 2, longest)
        else:
            self._fenced.pop(lease.partition, None)
        if not lease.lost:
            self.released.append(lease.partition)
            self._changed.set()

    def leave(self) -> None:
        """End the work and leave the group; others take each lease as soon as its work has ended."""
        self.leaving = True
        self._end(list(self._leases.values()))
        self._changed.set()

    def observe(self, member: int, members: Collection[int], holders: Mapping[int, int]) -> list[int]:
        """Take in who is a member and who holds what; give up the surplus and return the partitions to take.

        `member` is the backend of this replica.
        """
        self._members = len(members)
        self._holders = dict(holders)
        self._lose(lease for lease in self._held() if holders.get(lease.partition) != member)
        self.share = 0 if self.leaving else fair_share.share(self.name, members, member, self.partitions)
        now = self._clock()
        free = [
            partition
            for partition in range(self.partitions)
            if partition not in holders
            and partition not in self._leases
            and now >= self._not_before.get(partition, now)
        ]
        plan = fair_share.plan(
            self.name,
            member,
            share=self.share,
            held=[lease.partition for lease in self._held() if not lease.ended.is_set()],
            ending=[lease.partition for lease in self._held() if lease.ended.is_set()],
            free=free,
        )
        if plan.give_up:
            self._log("leases.given_up", plan.give_up)
            self._end([self._leases[partition] for partition in plan.give_up])
        if not plan.take:
            self.seen.set()
        return plan.take

    def taken(self, member: int, partitions: Collection[int]) -> None:
        """Hand the leases that were taken to the work."""
        if self.leaving:  # since it wanted them
            self.released += partitions
            self._changed.set()
            return
        for partition in partitions:
            lease = self._leases[partition] = Lease(self.name, partition)
            self._holders[partition] = member
            self._new.append(lease)
        if partitions:
            self._log("leases.acquired", partitions)
            self._arrived.set()
        self.seen.set()

    def lose_all(self) -> None:
        """Lose every lease: the connection is gone."""
        self.released.clear()
        self._lose(self._held())
        self._holders.clear()

    def others(self, member: int) -> set[int]:
        """Return the backends of other replicas that hold partitions."""
        return set(self._holders.values()) - {member}

    def idle(self) -> bool:
        """Return whether it has no lock any more, but for those of `released`."""
        return not self._held()

    @property
    def number_held(self) -> int:
        """How many partitions are held here."""
        return len(self._held())

    def describe(self, member: int, names: Mapping[int, str]) -> str:
        """Return which partitions are held here, and who holds the others."""
        held = [lease.partition for lease in self._held()]
        replicas = f"{self._members} replica{'' if self._members == 1 else 's'}"
        parts = [f"{self.name} holds {ranges(held)} ({len(held)} of {self.partitions}, {replicas})"]
        others: dict[str, list[int]] = {}
        for partition in sorted(set(range(self.partitions)) - set(held)):
            pid = self._holders.get(partition)
            holder = NOBODY if pid in (None, member) else names.get(pid, f"backend {pid}")
            others.setdefault(holder, []).append(partition)
        parts += [f"waits for {ranges(those)}, held by {holder}" for holder, those in sorted(others.items())]
        return "; ".join(parts)

    def _held(self) -> list[Lease]:
        return [lease for lease in self._leases.values() if not lease.lost]

    def _lose(self, leases: Iterable[Lease]) -> None:
        lost = list(leases)
        for lease in lost:
            lease.lost = True
        if lost:
            log.warning("leases.lost", group=self.name, partitions=ranges(each.partition for each in lost))
        self._end(lost)

    def _end(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            lease.ended.set()
            if lease in self._new:
                self._new.remove(lease)
                self.release(lease)

    def _log(self, event: str, partitions: Collection[int]) -> None:
        log.info(
            event, group=self.name, partitions=ranges(partitions), share=self.share, replicas=self._members
        )


def ranges(partitions: Iterable[int]) -> str:
    """Return partitions as text, e.g. `0-4, 7`."""
    runs = groupby(enumerate(sorted(partitions)), key=lambda pair: pair[1] - pair[0])
    each = [[partition for _, partition in run] for _, run in runs]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in each) or "none"
