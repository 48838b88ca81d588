"""The metrics of an agent worker; those of its job processes are added to them by `job_metrics`."""

from antiphon.chassis.metrics import counter, gauge

calls = gauge(
    "antiphon.worker.calls", unit="{call}", description="Calls that this worker has, or is about to start"
)
capacity = gauge(
    "antiphon.worker.capacity",
    unit="{call}",
    description="Calls that this worker takes at most; without ANTIPHON_AGENT_CALLS there is no series",
)
draining = gauge(
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
