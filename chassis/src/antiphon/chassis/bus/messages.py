"""What goes over the bus, and what comes back."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET, Struct

from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.registry import family_of
from antiphon.contracts.subjects import event_subject

TRACEPARENT = "traceparent"


class Outgoing(Struct, frozen=True):
    """Hold a message to publish; its id makes every retry harmless."""

    subject: str
    payload: bytes
    message_id: str
    headers: Mapping[str, str] = {}


class Ack(Struct, frozen=True):
    """Say where the stream has stored a message, and whether it was there already."""

    position: int
    duplicate: bool


class Incoming(Struct, frozen=True):
    """Hold a stored message; `consumer_sequence` is 0 when it was read and not delivered."""

    subject: str
    payload: bytes
    position: int
    consumer_sequence: int
    headers: Mapping[str, str] | None
    published_at: datetime | None
    ack_subject: str = ""


def outgoing(envelope: Envelope) -> Outgoing:
    """Address an event: subject by its family, message id = event id, trace context in a header.

    Raises UnknownEventType.
    """
    traced = envelope.traceparent is not UNSET
    return Outgoing(
        subject=event_subject(envelope.tenant, envelope.subject, family_of(envelope.type)),
        payload=encode(envelope),
        message_id=envelope.id,
        headers={TRACEPARENT: str(envelope.traceparent)} if traced else {},
    )
