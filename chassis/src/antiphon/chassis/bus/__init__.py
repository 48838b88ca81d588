"""The only door to the broker."""

from antiphon.chassis.bus.errors import (
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
from antiphon.chassis.bus.group_commit import GroupCommit
from antiphon.chassis.bus.messages import TRACEPARENT, Ack, Incoming, Outgoing, outgoing
from antiphon.chassis.bus.port import (
    BATCH_LIMIT,
    MISSED,
    Announcement,
    Bucket,
    Bus,
    Puller,
    Subscription,
    Watched,
)

__all__ = [
    "BATCH_LIMIT",
    "MISSED",
    "TRACEPARENT",
    "Ack",
    "Announcement",
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
    "KeyExists",
    "Outgoing",
    "PayloadTooLarge",
    "Puller",
    "StreamFull",
    "StreamReplaced",
    "SubjectNotEmpty",
    "Subscription",
    "Watched",
    "outgoing",
]
