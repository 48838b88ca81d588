"""The metrics of an agent worker; those of its job processes are added to them by `job_metrics`."""

from collections.abc import Callable

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.metrics import counter, gauge

calls_gauge = gauge(
    "antiphon.worker.calls", unit="{call}", description="Calls that this worker has, or is about to start"
)
capacity = gauge(
    "antiphon.worker.capacity",
    unit="{call}",
    description="Calls that this worker takes at most; without ANTIPHON_AGENT_CALLS there is no series",
)
draining_gauge = gauge(
    "antiphon.worker.draining",
    description="1 while the worker takes no calls and waits for the end of its last",
)
jobs = counter(
    "antiphon.worker.jobs",
    unit="{job}",
    description="Job processes that had a call and are gone: by themselves (ended), or killed or with "
    "an error (failed)",
    labels={"outcome": ("ended", "failed")},
)


def watch(
    settings: AgentSettings, *, calls: Callable[[], int], draining: Callable[[], bool]
) -> Callable[[], None]:
    """Read the gauges of the worker from these from now on; return a function that ends it."""
    ends = [calls_gauge.watch(calls), draining_gauge.watch(draining)]
    if (most := settings.calls) is not None:
        ends.append(capacity.watch(lambda: most))

    def end() -> None:
        for each in ends:
            each()

    return end
