"""The messages of the bus: published, acknowledged, received."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET, Struct

from antiphon.contracts.envelope import Envelope, decode, encode
from antiphon.contracts.errors import InvalidEvent, MalformedEvent
from antiphon.contracts.registry import family_of
from antiphon.contracts.subjects import event_subject
from antiphon.contracts.validate import validate_event

TRACEPARENT = "traceparent"


class Outgoing(Struct, frozen=True):
    """A message to publish; its id makes retries safe."""

    subject: str
    payload: bytes
    message_id: str
    headers: Mapping[str, str] = {}


class Ack(Struct, frozen=True):
    """The position of a stored message in its stream, and whether it was already there."""

    position: int
    duplicate: bool


class Incoming(Struct, frozen=True):
    """A stored message; `consumer_sequence` is 0 unless a consumer delivered it."""

    subject: str
    payload: bytes
    position: int
    consumer_sequence: int
    headers: Mapping[str, str] | None
    published_at: datetime | None
    ack_subject: str = ""


def envelope_of(incoming: Incoming) -> Envelope | None:
    """Return the envelope of a stored message; None for one that has none, which ingest sets aside."""
    try:
        return decode(incoming.payload)
    except MalformedEvent:
        return None


def outgoing(envelope: Envelope) -> Outgoing:
    """Address an event: subject by its family, message id = event id, trace context in a header.

    Raises UnknownEventType, and InvalidEvent for one that ingest would refuse.
    """
    traced = envelope.traceparent is not UNSET
    subject = event_subject(envelope.tenant, envelope.subject, family_of(envelope.type))
    payload = encode(envelope)
    try:
        validate_event(subject, payload)
    except MalformedEvent as error:  # its envelope: an id that is too long, for example
        raise InvalidEvent(str(error)) from error
    return Outgoing(
        subject=subject,
        payload=payload,
        message_id=envelope.id,
        headers={TRACEPARENT: str(envelope.traceparent)} if traced else {},
    )
