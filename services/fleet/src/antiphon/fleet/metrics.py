"""The metrics of the fleet service: the sums that autoscalers read."""

from collections.abc import Callable

from antiphon.chassis.metrics import gauge
from antiphon.fleet.workers import Workers

workers = gauge("antiphon.fleet.workers", unit="{worker}", description="Agent workers that are heard")
calls = gauge("antiphon.fleet.calls", unit="{call}", description="Calls of all agent workers that are heard")
capacity = gauge(
    "antiphon.fleet.capacity",
    unit="{call}",
    description="Calls that the agent workers take at most, as far as they have a limit and are not draining",
)


def watch(heard: Workers) -> Callable[[], None]:
    """Read the gauges from these workers from now on; return a function that ends it."""
    ends = (
        workers.watch(lambda: len(heard.states())),
        calls.watch(lambda: sum(worker.active_calls for worker in heard.states())),
        capacity.watch(lambda: sum(worker.capacity or 0 for worker in heard.states() if not worker.draining)),
    )

    def end() -> None:
        for each in ends:
            each()

    return end
