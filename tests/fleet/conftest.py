"""Heartbeats and a clock for the tests of the fleet service."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from antiphon.contracts.workers import WorkerHeartbeat

Beat = Callable[..., WorkerHeartbeat]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def beat() -> Beat:
    """A function that makes the heartbeat of a worker, which is in a pod of the same name."""

    def make(worker: str, active_calls: int = 0, **more: object) -> WorkerHeartbeat:
        values = {"capacity": 10, "draining": False, "pod": f"pod-{worker}", **more}
        return WorkerHeartbeat(
            worker=worker,
            active_calls=active_calls,
            started_at=datetime(2026, 1, 31, tzinfo=UTC),
            **values,  # type: ignore[arg-type] # as the struct has them
        )

    return make
