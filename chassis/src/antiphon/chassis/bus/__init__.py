"""The bus: the only access to NATS."""

from antiphon.chassis.bus.bus import VERIFY_SECONDS, Bus
from antiphon.chassis.bus.consume import Puller
from antiphon.chassis.bus.errors import (
    ApiError,
    BusError,
    BusUnavailable,
    ConsumerGap,
    ConsumerLost,
    DefinitionMismatch,
    DefinitionMissing,
    HistoryGap,
    InvalidSubject,
    KeyExists,
    NoResponder,
    NotPermitted,
    PayloadTooLarge,
    StorageTooSmall,
    StreamFull,
    StreamMissing,
    StreamReplaced,
    SubjectNotEmpty,
)
from antiphon.chassis.bus.group_commit import GroupCommit
from antiphon.chassis.bus.kv import Bucket, Entry, WatchedBucket
from antiphon.chassis.bus.messages import TRACEPARENT, Ack, Incoming, Outgoing, envelope_of, outgoing
from antiphon.chassis.bus.publish import BATCH_LIMIT
from antiphon.chassis.bus.requests import Responder
from antiphon.chassis.bus.stored import StreamState
from antiphon.chassis.bus.subscribe import MISSED, Announcement, Subscription

__all__ = [
    "BATCH_LIMIT",
    "MISSED",
    "TRACEPARENT",
    "VERIFY_SECONDS",
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
    "DefinitionMissing",
    "Entry",
    "GroupCommit",
    "HistoryGap",
    "Incoming",
    "InvalidSubject",
    "KeyExists",
    "NoResponder",
    "NotPermitted",
    "Outgoing",
    "PayloadTooLarge",
    "Puller",
    "Responder",
    "StorageTooSmall",
    "StreamFull",
    "StreamMissing",
    "StreamReplaced",
    "StreamState",
    "SubjectNotEmpty",
    "Subscription",
    "WatchedBucket",
    "envelope_of",
    "outgoing",
]
