"""The lag of a view as a metric, from what the loop knows anyway: no query, once a second at most."""

import time
from collections.abc import Callable, Mapping, Sequence

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.metrics import projection_lag, stalled

RECORD_SECONDS = 1.0


class LagGauge:
    """The lag of each partition of a view that this process holds."""

    def __init__(self, projection: str, clock: Callable[[], float] = time.time) -> None:
        self._projection = projection
        self._clock = clock
        self._recorded_at = 0.0
        self._begun_at = 0.0
        self._held: set[int] = set()
        self._behind: set[int] = set()  # partitions whose last value is not 0

    def held(self, partition: int) -> None:
        """Record that this process has a partition from now on."""
        self._held.add(partition)
        projection_lag.set(0.0, self._projection, str(partition))
        stalled.set(0, self._projection, str(partition))

    def left(self, partition: int) -> None:
        """Record that a partition is another process's now, which records it."""
        self._held.discard(partition)
        self._behind.discard(partition)
        projection_lag.remove(self._projection, str(partition))
        stalled.remove(self._projection, str(partition))

    def begins(self, envelopes: Sequence[Envelope]) -> None:
        """Record how long events wait that are about to be folded: if that fails or hangs, they go on to."""
        now = self._clock()
        if 0 <= now - self._begun_at < RECORD_SECONDS:
            return
        self._begun_at = now
        self._record(now, {partition_of(envelope.subject): envelope for envelope in reversed(envelopes)})

    def folded(self, envelopes: Sequence[Envelope]) -> None:
        """Record the lag of partitions that have just moved."""
        now = self._clock()
        if 0 <= now - self._recorded_at < RECORD_SECONDS:
            return
        self._recorded_at = now
        self._record(now, {partition_of(envelope.subject): envelope for envelope in envelopes})

    def _record(self, now: float, last: Mapping[int, Envelope]) -> None:
        for partition in last.keys() & self._held:
            self._behind.add(partition)
            lag = max(0.0, now - last[partition].time.timestamp())
            projection_lag.set(lag, self._projection, str(partition))

    def caught_up(self) -> None:
        """Record that nothing is left to fold."""
        for partition in self._behind:
            projection_lag.set(0.0, self._projection, str(partition))
        self._behind.clear()
