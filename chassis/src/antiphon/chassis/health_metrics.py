"""The metric of the readiness of a service."""

from antiphon.chassis.metrics import gauge

ready = gauge(
    "antiphon.ready",
    combine="min",
    description="1 while every check of `/health/ready` passes, else 0; looked at every ten seconds",
)
