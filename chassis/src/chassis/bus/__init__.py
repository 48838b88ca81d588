"""The only door to the broker."""

from chassis.bus.errors import (
    BusError,
    BusUnavailable,
    ConsumerGap,
    ConsumerLost,
    DefinitionMismatch,
    HistoryGap,
    KeyExists,
    PayloadTooLarge,
    StreamFull,
    StreamReplaced,
    SubjectNotEmpty,
)
from chassis.bus.group_commit import GroupCommit
from chassis.bus.messages import TRACEPARENT, Ack, Incoming, Outgoing, outgoing
from chassis.bus.port import BATCH_LIMIT, GAP, Bucket, Bus, Heard, Listening, Puller, Watched

__all__ = [
    "BATCH_LIMIT",
    "GAP",
    "TRACEPARENT",
    "Ack",
    "Bucket",
    "Bus",
    "BusError",
    "BusUnavailable",
    "ConsumerGap",
    "ConsumerLost",
    "DefinitionMismatch",
    "GroupCommit",
    "Heard",
    "HistoryGap",
    "Incoming",
    "KeyExists",
    "Listening",
    "Outgoing",
    "PayloadTooLarge",
    "Puller",
    "StreamFull",
    "StreamReplaced",
    "SubjectNotEmpty",
    "Watched",
    "outgoing",
]
