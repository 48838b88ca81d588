"""The metrics of a connection to the broker."""

from typing import Final

from antiphon.chassis.metrics import OTHER, AtMost, counter, gauge, histogram
from antiphon.contracts.streams import BUCKETS, SESSIONS

SYSTEM: Final = "nats"
PUBLISH: Final = "publish"

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
    "antiphon.bus.connected", description="1 while the process is connected to the broker, else 0"
)
reconnects = counter(
    "antiphon.bus.reconnects", unit="{reconnect}", description="Times that a lost connection was made again"
)
