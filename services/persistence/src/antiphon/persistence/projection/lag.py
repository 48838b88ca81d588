"""The lag of a view as a metric, from what the loop knows anyway: no query, once a second at most."""

import time
from collections.abc import Callable, Collection, Sequence

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.metrics import projection_lag

RECORD_SECONDS = 1.0


class LagGauge:
    """The lag of each partition of a view that this process holds."""

    def __init__(self, projection: str, clock: Callable[[], float] = time.time) -> None:
        self._projection = projection
        self._clock = clock
        self._recorded_at = 0.0
        self._behind: set[int] = set()  # partitions whose last value is not 0

    def folded(self, envelopes: Sequence[Envelope]) -> None:
        """Record the lag of partitions that have just moved."""
        now = self._clock()
        if 0 <= now - self._recorded_at < RECORD_SECONDS:
            return
        self._recorded_at = now
        newest = {partition_of(envelope.subject): envelope for envelope in envelopes}
        for partition, envelope in newest.items():
            self._behind.add(partition)
            projection_lag.set(max(0.0, now - envelope.time.timestamp()), self._projection, str(partition))

    def caught_up(self, partitions: Collection[int] | None = None) -> None:
        """Record that nothing is left to fold, or that these partitions are another process's now."""
        settled = self._behind.copy() if partitions is None else self._behind & set(partitions)
        for partition in settled:
            projection_lag.set(0.0, self._projection, str(partition))
        self._behind -= settled
