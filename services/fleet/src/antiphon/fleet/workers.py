"""The workers that were heard lately: bounded, without those that are silent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from antiphon.contracts.workers import HEARTBEAT_SECONDS, SILENT_SECONDS, WorkerHeartbeat
from antiphon.fleet.scale import Scale, WorkerState, scale_of

log = structlog.get_logger(__name__)

MAX_WORKERS: Final = 10_000
LISTEN_SECONDS: Final = 3 * HEARTBEAT_SECONDS  # after which every worker that lives has been heard
RECENT_SECONDS: Final = 15.0  # for which a worker that got a call is not taken for idle


class NothingHeard(Exception):
    """The number of calls is not known."""


class TooManyWorkers(Exception):
    """More workers send heartbeats than are counted."""


@dataclass(slots=True)
class Heard:
    """The last heartbeat of a worker, when it came, and when the worker last got a call."""

    beat: WorkerHeartbeat
    at: float
    got_call_at: float = -math.inf


class Workers:
    """The last heartbeat of each worker. A sum is given only when every worker had time to be heard."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        silent_seconds: float = SILENT_SECONDS,
        listen_seconds: float = LISTEN_SECONDS,
        max_workers: int = MAX_WORKERS,
    ) -> None:
        self._clock = clock
        self._silent_seconds = silent_seconds
        self._listen_seconds = listen_seconds
        self._max_workers = max_workers
        self._heard: dict[str, Heard] = {}
        self._listening_since = math.inf
        self._refused_at = -math.inf

    def listening(self) -> None:
        """Note that heartbeats come from now on, for the first time or after an outage of the broker.

        Workers that were heard shortly before the outage have their calls still, and get time to say so.
        """
        now = self._clock()
        self._expire()
        if not self._heard or math.isinf(self._listening_since):
            self._listening_since = now
        for heard in self._heard.values():
            heard.at = now

    def hear(self, beat: WorkerHeartbeat) -> None:
        """Take a heartbeat."""
        now = self._clock()
        before = self._heard.get(beat.worker)
        if before is None and len(self._heard) >= self._max_workers:
            self._expire()
            if len(self._heard) >= self._max_workers:
                self._refuse(now)
                return
        got_call_at = before.got_call_at if before else -math.inf
        if beat.active_calls > (before.beat.active_calls if before else 0):
            got_call_at = now
        self._heard[beat.worker] = Heard(beat, now, got_call_at)

    def scale(self, warm_calls: int) -> Scale:
        """Return the sums over the workers. Raises NothingHeard."""
        self._expire()
        if not self._heard:
            raise NothingHeard(
                f"no worker has been heard for {self._silent_seconds:g} s: the number of calls is not known"
            )
        if (since := self._clock() - self._listening_since) < self._listen_seconds:
            raise NothingHeard(
                f"listening for {max(0.0, since):.1f} s of {self._listen_seconds:g}: workers may be missing"
            )
        return scale_of([heard.beat for heard in self._heard.values()], warm_calls)

    def states(self) -> list[WorkerState]:
        """Return each worker, by id."""
        self._expire()
        now = self._clock()
        return [
            WorkerState(
                worker=beat.worker,
                pod=beat.pod,
                active_calls=beat.active_calls,
                capacity=beat.capacity,
                draining=beat.draining,
                started_at=beat.started_at,
                silent_seconds=round(now - heard.at, 1),
            )
            for heard in sorted(self._heard.values(), key=lambda heard: heard.beat.worker)
            for beat in (heard.beat,)
        ]

    def deletion_costs(self) -> dict[str, int]:
        """Return what the deletion of each pod would cost: its calls, and at least 1 if it just got one.

        Pods that are draining are being deleted already; silent ones keep the cost that they have.
        """
        self._expire()
        recent = self._clock() - RECENT_SECONDS
        costs: dict[str, int] = {}
        for heard in self._heard.values():
            beat = heard.beat
            if beat.pod is not None and not beat.draining:
                least = 1 if heard.got_call_at > recent else 0
                costs[beat.pod] = costs.get(beat.pod, 0) + max(beat.active_calls, least)
        return costs

    async def check(self) -> str:
        """Say how many workers are counted; for `Health.add`. Raises TooManyWorkers."""
        if self._clock() - self._refused_at < self._silent_seconds:
            raise TooManyWorkers(
                f"more than {self._max_workers} workers send heartbeats: the rest is ignored"
            )
        self._expire()
        return f"{len(self._heard)} workers are heard"

    def _expire(self) -> None:
        oldest = self._clock() - self._silent_seconds
        for worker in [worker for worker, heard in self._heard.items() if heard.at < oldest]:
            gone = self._heard.pop(worker).beat
            # one that drained and ended is expected to fall silent
            report = log.info if gone.draining else log.warning
            report("worker.silent", worker=worker, pod=gone.pod, active_calls=gone.active_calls)

    def _refuse(self, now: float) -> None:
        if now - self._refused_at >= self._silent_seconds:
            log.error("workers.too_many", counted=self._max_workers)
        self._refused_at = now
