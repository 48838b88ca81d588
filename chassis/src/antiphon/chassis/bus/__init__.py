"""The bus: the only access to NATS."""

from antiphon.chassis.bus.bus import Bus
from antiphon.chassis.bus.consume import Puller
from antiphon.chassis.bus.errors import (
    ApiError,
    BusError,
    BusUnavailable,
    ConsumerGap,
    ConsumerLost,
    DefinitionMismatch,
    HistoryGap,
    InvalidSubject,
    KeyExists,
    PayloadTooLarge,
    StreamFull,
    StreamReplaced,
    SubjectNotEmpty,
)
from antiphon.chassis.bus.group_commit import GroupCommit
from antiphon.chassis.bus.kv import Bucket, WatchedBucket
from antiphon.chassis.bus.messages import TRACEPARENT, Ack, Incoming, Outgoing, outgoing
from antiphon.chassis.bus.publish import BATCH_LIMIT
from antiphon.chassis.bus.subscribe import MISSED, Announcement, Subscription

__all__ = [
    "BATCH_LIMIT",
    "MISSED",
    "TRACEPARENT",
    "Ack",
    "Announcement",
    "ApiError",
    "Bucket",
    "Bus",
    "BusError",
    "BusUnavailable",
    "ConsumerGap",
    "ConsumerLost",
    "DefinitionMismatch",
    "GroupCommit",
    "HistoryGap",
    "Incoming",
    "InvalidSubject",
    "KeyExists",
    "Outgoing",
    "PayloadTooLarge",
    "Puller",
    "StreamFull",
    "StreamReplaced",
    "SubjectNotEmpty",
    "Subscription",
    "WatchedBucket",
    "outgoing",
]
