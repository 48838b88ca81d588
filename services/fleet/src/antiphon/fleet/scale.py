"""What autoscalers and people read: `/scale`, the sums, and `/workers`, each worker."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from antiphon.contracts.workers import WorkerHeartbeat


class Draining(Struct, frozen=True):
    """Workers that take no new calls: their pods are going already, so nothing scales by them."""

    workers: int
    active_calls: int


class Scale(Struct, frozen=True, kw_only=True):
    """The calls of the workers that take calls, and the calls that there must be room for.

    An autoscaler divides `wanted_calls` by the calls that one worker takes.
    """

    active_calls: int
    warm_calls: int  # the buffer
    wanted_calls: int  # the sum of both
    workers: int
    capacity: int | None  # calls that they take at once, None when one of them has no fixed number
    draining: Draining


class WorkerState(Struct, frozen=True, kw_only=True):
    """One worker, as it last said."""

    worker: str
    pod: str | None
    active_calls: int
    capacity: int | None
    draining: bool
    started_at: datetime
    silent_seconds: float


def scale_of(beats: Sequence[WorkerHeartbeat], warm_calls: int) -> Scale:
    """Return the sums over workers."""
    taking = [beat for beat in beats if not beat.draining]
    leaving = [beat for beat in beats if beat.draining]
    active = sum(beat.active_calls for beat in taking)
    capacities = [beat.capacity for beat in taking if beat.capacity is not None]
    return Scale(
        active_calls=active,
        warm_calls=warm_calls,
        wanted_calls=active + warm_calls,
        workers=len(taking),
        capacity=sum(capacities) if len(capacities) == len(taking) else None,
        draining=Draining(len(leaving), sum(beat.active_calls for beat in leaving)),
    )
