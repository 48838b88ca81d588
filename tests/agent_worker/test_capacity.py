"""A worker refuses the call that is one too many, whatever its CPU carries."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from antiphon.agent_worker.capacity import calls_of, load_of, threshold_of
from antiphon.agent_worker.settings import AgentSettings


def settings(**values: Any) -> AgentSettings:
    return AgentSettings(livekit_api_key="key", livekit_api_secret="secret" * 6, **values)


def worker(jobs: int, reserved: int = 0) -> Any:
    return SimpleNamespace(active_jobs=[None] * jobs, _reserved_slots=reserved)


@pytest.mark.parametrize("threshold", [0.7, 1.0, math.inf])
@pytest.mark.parametrize("calls", [1, 3, 7, 10])
def test_a_full_worker_is_at_its_threshold(calls: int, threshold: float) -> None:
    chosen = settings(calls=calls, load_threshold=threshold)
    load, limit = load_of(chosen), threshold_of(chosen)

    assert load(worker(calls)) >= limit
    if math.isinf(threshold):  # else the load of this machine's CPU is in it
        assert load(worker(calls - 1)) < limit
        assert load(worker(0)) == 0


def test_a_worker_without_limits_refuses_nothing() -> None:
    unlimited = settings(load_threshold=math.inf)

    assert math.isinf(threshold_of(unlimited))
    assert load_of(unlimited)(worker(1000)) == 0


def test_a_call_that_is_about_to_start_counts() -> None:
    assert calls_of(worker(2, reserved=1)) == 3
    assert calls_of(None) == 0
