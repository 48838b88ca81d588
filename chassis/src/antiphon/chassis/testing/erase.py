"""Empty a broker between tests."""

from antiphon.chassis.bus.connection import ApiError
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.chassis.bus.port import Bus
from antiphon.contracts.streams import BUCKETS, STREAMS

NOT_FOUND = 404


async def erase(bus: Bus) -> None:
    """Delete every stream, consumer and bucket that the contract defines."""
    if not isinstance(bus, NatsBus):
        raise TypeError(f"{type(bus).__name__} has no broker to empty")
    for name in [stream.name for stream in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]:
        try:
            await bus.connection.api(f"STREAM.DELETE.{name}")
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
