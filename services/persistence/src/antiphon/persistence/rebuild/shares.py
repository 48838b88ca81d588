"""The shares of the partitions that several processes fold: each takes another when it has folded one."""

from collections import deque

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.rebuild.fold import OnProgress

SHARES_PER_PROCESS = 4  # one that starts late, or is slower, folds fewer

Partitions = tuple[int, ...]


class Shares:
    """The shares that nobody has taken, and which part of all is done."""

    def __init__(self, processes: int, on_progress: OnProgress) -> None:
        width = max(1, PARTITIONS // (processes * SHARES_PER_PROCESS))
        starts = range(0, PARTITIONS, width)
        self._left = deque(tuple(range(start, min(start + width, PARTITIONS))) for start in starts)
        self._done = dict.fromkeys(self._left, 0.0)
        self._on_progress = on_progress

    def take(self) -> Partitions | None:
        """Return a share that nobody has taken, or None."""
        return self._left.popleft() if self._left else None

    def progress(self, share: Partitions) -> OnProgress:
        """Return what reports how much of a share is done."""

        def on_progress(events: int, done: float) -> None:
            self._done[share] = done
            self._on_progress(events, sum(self._done.values()) / len(self._done))

        return on_progress
