"""The partitions that one loop works on: a set that grows and shrinks while the loop runs."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.persistence.errors import Fenced


class Taken(NamedTuple):
    """The partitions that a loop works on from now, and those of them whose epoch it has to claim."""

    partitions: frozenset[int]
    new: frozenset[int]


class _Owned:
    def __init__(self) -> None:
        self.new = True
        self.ending = False
        self.let_go = asyncio.Event()
        self.failed = asyncio.Event()
        self.error: Fenced | None = None


class OwnedPartitions:
    """The partitions of one loop; `own` is the work of `run_while_leased`, the loop calls the rest.

    `changed` is set from the moment that the set differs from what the loop works on until it calls `take`.
    The loop has FINISH_SECONDS to do so. A loop that waits to try again, or is stalled, watches it too. One
    that starts again after an error claims the epochs of all its partitions. At its end it calls `close`.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._owned: dict[int, _Owned] = {}
        self._closed = False

    async def own(self, partition: int, ended: asyncio.Event) -> None:
        """Own a partition until `ended` is set and the loop has let it go.

        Raises Fenced when the loop reports that it is.
        """
        owned = self._owned[partition] = _Owned()
        self.changed.set()
        if self._closed:
            owned.let_go.set()
        try:
            with suppress(ShuttingDown):
                await wait_or_stop(owned.failed.wait(), ended)
            if owned.error is not None:
                raise owned.error
            owned.ending = True
            self.changed.set()
            await owned.let_go.wait()
        finally:
            if self._owned.get(partition) is owned:
                del self._owned[partition]
                self.changed.set()

    def take(self) -> Taken:
        """Return the partitions to work on from now; this call lets go those that it does not contain."""
        self.changed.clear()
        partitions, new = set(), set()
        for partition, owned in self._owned.items():
            if owned.ending:
                owned.let_go.set()
            elif owned.error is None:
                partitions.add(partition)
                if owned.new:
                    new.add(partition)
                owned.new = False
        return Taken(frozenset(partitions), frozenset(new))

    def fenced(self, error: Fenced, partitions: Collection[int]) -> None:
        """Let partitions go whose epoch another writer has raised; `take` does not return them any more."""
        for partition in partitions:
            owned = self._owned.get(partition)
            if owned is not None:
                owned.error = error
                owned.failed.set()
                self.changed.set()

    def close(self) -> None:
        """Let every partition go as soon as its lease ends: the loop has ended."""
        self._closed = True
        for owned in self._owned.values():
            owned.let_go.set()
