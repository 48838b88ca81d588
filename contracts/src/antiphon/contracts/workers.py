"""What agent workers say of themselves on core NATS: every second and at each change, stored nowhere."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import Count

HEARTBEAT_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 5.0  # a worker that has been silent for so long is counted no more
ALL_WORKERS: Final = "live.workers.*"

WorkerId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="new at each start")]
# It becomes a part of a URL of the API server.
PodName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$", description="of the Kubernetes pod")]
StartedAt = Annotated[datetime, Meta(tz=True)]


class InvalidHeartbeat(ContractError):
    """A message is no heartbeat."""


class WorkerHeartbeat(Struct, frozen=True, kw_only=True):
    """The state of an agent worker: its calls, and how many it takes at once, None for no fixed number."""

    worker: WorkerId
    active_calls: Count
    draining: bool
    started_at: StartedAt
    pod: PodName | None = None
    capacity: Annotated[int, Meta(ge=1, le=100_000)] | None = None


def worker_subject(worker: str) -> str:
    """Return the subject of the heartbeats of a worker."""
    return f"live.workers.{worker}"


_decoder = msgspec.json.Decoder(WorkerHeartbeat)


def decode_heartbeat(payload: bytes) -> WorkerHeartbeat:
    """Decode a heartbeat. Raises InvalidHeartbeat."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidHeartbeat(str(error)) from error
