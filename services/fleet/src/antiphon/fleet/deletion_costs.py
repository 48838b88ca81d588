"""Write the calls of each worker on its pod, so that a scale-in removes idle pods first."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from antiphon.fleet.pods import Pods
from antiphon.fleet.workers import Workers

log = structlog.get_logger(__name__)

PASS_SECONDS: Final = 1.0
PATCHES_PER_PASS: Final = 20
LIST_SECONDS: Final = 30.0  # others may write the annotation too
NEW_POD_SECONDS: Final = 3.0  # a pod that is heard and not known leads to a list this often at most


class DeletionCosts:
    """The annotations of pods that follow what their workers say; each is written when it changes."""

    def __init__(self, workers: Workers, pods: Pods, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._pods = pods
        self._clock = clock
        self._known: dict[str, int | None] = {}
        self._listed_at: float | None = None
        self._strangers: set[str] = set()  # heard, and not among the pods of the list

    async def run(self) -> None:
        """Write until cancelled. Raises ApiServerRefused, httpx.HTTPError, OSError."""
        while True:
            await self.write()
            await asyncio.sleep(PASS_SECONDS)

    async def write(self) -> int:
        """Write what has changed, as much as one pass may, and return how many pods that were."""
        wanted = self._workers.deletion_costs()
        await self._list_if_needed(wanted)
        changes = sorted(
            (
                (pod, cost)
                for pod, cost in wanted.items()
                if pod in self._known and cost != (self._known[pod] or 0)
            ),
            key=lambda change: (self._known[change[0]] or 0) - change[1],  # who became busiest comes first
        )
        for pod, cost in changes[:PATCHES_PER_PASS]:
            if await self._pods.set_cost(pod, cost):
                self._known[pod] = cost
                log.debug("pod.deletion_cost", pod=pod, cost=cost)
            else:
                del self._known[pod]
        return min(len(changes), PATCHES_PER_PASS)

    async def _list_if_needed(self, wanted: dict[str, int]) -> None:
        age = float("inf") if self._listed_at is None else self._clock() - self._listed_at
        unknown = any(pod not in self._known for pod in wanted)
        if age >= LIST_SECONDS or (unknown and age >= NEW_POD_SECONDS):
            self._known = await self._pods.costs()
            self._listed_at = self._clock()
            self._report_strangers({pod for pod in wanted if pod not in self._known})

    def _report_strangers(self, strangers: set[str]) -> None:
        # a pod that has just been deleted may be among them for some seconds
        if strangers - self._strangers:
            log.warning(
                "pods.without_the_labels", pods=sorted(strangers)[:10], more=max(0, len(strangers) - 10)
            )
        self._strangers = strangers
