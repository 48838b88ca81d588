"""The metrics of the fleet service: the sums that autoscalers read."""

from antiphon.chassis.metrics import gauge

workers = gauge("antiphon.fleet.workers", unit="{worker}", description="Agent workers that are heard")
calls = gauge("antiphon.fleet.calls", unit="{call}", description="Calls of all agent workers that are heard")
capacity = gauge(
    "antiphon.fleet.capacity",
    unit="{call}",
    description="Calls that the agent workers take at most, as far as they have a limit and are not draining",
)
