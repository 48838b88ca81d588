"""Validate a message: a valid event goes to the event log, anything else to the dead letters."""

import structlog
from msgspec import Struct

from antiphon.chassis.bus import Incoming
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import InvalidBody, InvalidEvent, MalformedEvent
from antiphon.contracts.ids import is_tenant
from antiphon.contracts.subjects import parse_event_subject, partition_of
from antiphon.contracts.validate import validate_event

log = structlog.get_logger(__name__)

MAX_ERROR = 1000  # characters
UNKNOWN_TENANT = "unknown"
_REASONS = {MalformedEvent: "malformed", InvalidEvent: "invalid", InvalidBody: "invalid_body"}


class ValidEvent(Struct, frozen=True, gc=False):
    """An event for the event log; `text` is the envelope exactly as published."""

    incoming: Incoming
    envelope: Envelope
    text: str


class DeadLetter(Struct, frozen=True, gc=False):
    """A message that is not valid, and why; `by_client` if a client could have caused it."""

    incoming: Incoming
    error: str
    by_client: bool = False
    reason: str = "internal"  # one of metrics.DEAD_LETTER_REASONS

    @property
    def tenant(self) -> str:
        """The tenant in the subject, or `unknown`."""
        try:
            tenant = parse_event_subject(self.incoming.subject).tenant
        except ValueError:
            return UNKNOWN_TENANT
        return tenant if is_tenant(tenant) else UNKNOWN_TENANT


Validated = ValidEvent | DeadLetter


def validate(incoming: Incoming, partition: int) -> Validated:
    """Return the event of a message, or a dead letter if it can never be valid (see validate_event)."""
    try:
        envelope, text = validate_event(incoming.subject, incoming.payload)
    except (InvalidEvent, MalformedEvent) as error:
        return _dead_letter(incoming, error, by_client=isinstance(error, InvalidBody))
    except Exception as error:  # no message may stop its partition, whatever is wrong with it or with us
        log.exception("ingest.validation_failed", position=incoming.position)
        return _dead_letter(incoming, error, by_client=True)
    if partition_of(envelope.subject) != partition:
        moved = InvalidEvent(f"published on {incoming.subject}, but read in partition {partition}")
        return _dead_letter(incoming, moved, by_client=False)
    return ValidEvent(incoming, envelope, text)


def _dead_letter(incoming: Incoming, error: Exception, *, by_client: bool) -> DeadLetter:
    reason = _REASONS.get(type(error), "internal")
    return DeadLetter(incoming, f"{type(error).__name__}: {error}"[:MAX_ERROR], by_client, reason)
