"""The metrics of webhook-ingest, beside those of its HTTP server and its connection to the broker."""

from antiphon.chassis.metrics import counter

webhooks = counter(
    "antiphon.webhooks",
    unit="{webhook}",
    description="Webhooks of LiveKit: stored as an event (published), of a room that is no session "
    "(not_ours), to be sent again (deferred), answered with a problem (rejected)",
    labels={"outcome": ("published", "not_ours", "deferred", "rejected")},
)
