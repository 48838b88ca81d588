"""The metrics of a connection to the broker."""

import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from antiphon.chassis.metrics import OTHER, AtMost, counter, gauge, histogram
from antiphon.chassis.metrics.labels import ABSENT
from antiphon.contracts.streams import BUCKETS, SESSIONS

SYSTEM: Final = "nats"
PUBLISH: Final = "publish"
_EVENTS: Final = SESSIONS.subjects[0].removesuffix(">")

T = TypeVar("T")

duration = histogram(
    "messaging.client.operation.duration",
    description="Time from a publish to the acknowledgement that it is stored, with its retries; an "
    "atomic batch counts once",
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    labels={
        "messaging.system": (SYSTEM,),
        "messaging.operation.name": (PUBLISH,),
        "messaging.destination.name": (SESSIONS.name, *(f"KV_{bucket.name}" for bucket in BUCKETS), OTHER),
        "error.type": AtMost(20, "the class of the error, only if it failed"),
    },
)
connected = gauge(
    "antiphon.bus.connected",
    description="1 while the process is connected to the broker, else 0",
    combine="min",
)
reconnects = counter(
    "antiphon.bus.reconnects", unit="{reconnect}", description="Times that a lost connection was made again"
)


async def timed(subject: str, publishing: Awaitable[T]) -> T:
    """Await a publish and record its time; one that is cancelled is not recorded."""
    started = time.perf_counter()
    try:
        result = await publishing
    except Exception as error:
        _record(subject, started, type(error).__name__)
        raise
    _record(subject, started, ABSENT)
    return result


def _record(subject: str, started: float, error: str) -> None:
    duration.record(time.perf_counter() - started, SYSTEM, PUBLISH, _destination(subject), error)


def _destination(subject: str) -> str:
    if subject.startswith(_EVENTS):
        return SESSIONS.name
    return f"KV_{subject.split('.')[1]}" if subject.startswith("$KV.") else OTHER
