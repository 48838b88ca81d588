"""Definitions of the stream, its consumers and the buckets; created idempotently, verified by services."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from antiphon.contracts.subjects import ALL_EVENTS, PARTITIONS, partition_filter

DAY_SECONDS = 86_400
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class StreamDefinition:
    """A stream with file storage, limits retention and `discard new`: publishing to a full stream fails."""

    name: str
    subjects: tuple[str, ...]
    description: str
    max_age_seconds: int
    max_bytes: int
    duplicate_window_seconds: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsumerDefinition:
    """A durable pull consumer with AckAll: an ack covers every earlier message."""

    stream: str
    name: str
    filter_subject: str
    description: str
    ack_wait_seconds: int
    max_ack_pending: int


@dataclass(frozen=True, slots=True)
class BucketDefinition:
    """A key-value bucket for configuration; of one that is `write_once` the broker refuses every change."""

    name: str
    description: str
    history: int
    max_value_bytes: int
    max_age_seconds: int = 0  # 0 is without end
    max_bytes: int = 0  # 0 is without limit; a bucket that is full takes no more
    write_once: bool = False


SESSIONS = StreamDefinition(
    name="SESSIONS",
    subjects=(ALL_EVENTS,),
    description="Every event of every session",
    max_age_seconds=7 * DAY_SECONDS,
    max_bytes=8192 * MEBIBYTE,
    duplicate_window_seconds=600,
    metadata={"antiphon.partitions": str(PARTITIONS)},
)

KEYS = BucketDefinition("keys", "API keys by their SHA-256", history=1, max_value_bytes=4096)
FLOWS = BucketDefinition("flows", "Flow revisions, immutable", history=1, max_value_bytes=512 * 1024)
FLOW_DRAFTS = BucketDefinition(
    "flow_drafts",
    "Flows that test sessions run before they are published",
    history=1,
    max_value_bytes=512 * 1024,
    max_age_seconds=2 * DAY_SECONDS,  # a session lasts a day at most, and may be resumed
)
ROOMS = BucketDefinition(
    "rooms",
    "Sessions of adopted rooms, by the sid of the room",
    history=1,
    max_value_bytes=1024,
    max_age_seconds=7 * DAY_SECONDS,
)
DEPLOYMENT = BucketDefinition(
    "deployment", "Identity of the deployment, made once", history=1, max_value_bytes=1024
)
AUDIT = BucketDefinition(
    "audit",
    "Who changed keys, flows or what is stored; entries cannot be changed",
    history=1,
    max_value_bytes=4096,
    max_age_seconds=400 * DAY_SECONDS,
    max_bytes=256 * MEBIBYTE,  # about 250,000 acts
    write_once=True,
)

STREAMS = (SESSIONS,)
BUCKETS = (KEYS, FLOWS, FLOW_DRAFTS, ROOMS, DEPLOYMENT, AUDIT)


def ingest_consumer(partition: int) -> ConsumerDefinition:
    """Return the consumer that persistence reads one partition through."""
    return ConsumerDefinition(
        stream=SESSIONS.name,
        name=f"ingest-{partition}",
        filter_subject=partition_filter(partition),
        description=f"Ingest of partition {partition} into the event log",
        ack_wait_seconds=30,
        max_ack_pending=10_000,
    )


CONSUMERS = tuple(ingest_consumer(partition) for partition in range(PARTITIONS))
