"""Validate a message: a valid event goes to the event log, anything else to the dead letters."""

import re
from functools import lru_cache

import structlog
from msgspec import UNSET, Struct

from antiphon.chassis.bus import Incoming
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.registry import family_of, open_event
from antiphon.contracts.subjects import EventSubject, parse_event_subject, partition_of

log = structlog.get_logger(__name__)

MAX_DEPTH = 100  # levels of nesting
MAX_ERROR = 1000  # characters

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')  # a string is matched as a whole
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


class InvalidEvent(Exception):
    """The message can never be part of the event log."""


class ValidEvent(Struct, frozen=True, gc=False):
    """An event for the event log; `text` is the envelope exactly as published."""

    incoming: Incoming
    envelope: Envelope
    text: str


class DeadLetter(Struct, frozen=True, gc=False):
    """A message that is not valid, and why."""

    incoming: Incoming
    error: str


Validated = ValidEvent | DeadLetter


def validate(incoming: Incoming, partition: int) -> Validated:
    """Return the event of a message, or a dead letter if it can never be valid.

    Unknown event types and newer versions are valid: readers that do not know them skip them.
    """
    try:
        text = incoming.payload.decode()
        envelope = decode(text)
        _check_depth(text)
        _check_numbers(envelope)
        _check_subject(incoming.subject, envelope, partition)
        _check_body(envelope)
    except (InvalidEvent, MalformedEvent, UnicodeDecodeError) as error:
        return _dead_letter(incoming, error)
    except Exception as error:  # no message may stop its partition, whatever is wrong with it or with us
        log.exception("ingest.validation_failed", position=incoming.position)
        return _dead_letter(incoming, error)
    return ValidEvent(incoming, envelope, text)


def _dead_letter(incoming: Incoming, error: Exception) -> DeadLetter:
    reason = _TOO_DEEP if isinstance(error.__cause__, RecursionError) else str(error)
    return DeadLetter(incoming, f"{type(error).__name__}: {reason}"[:MAX_ERROR])


def _check_depth(text: str) -> None:
    # Decoders recurse: deep nesting could exhaust the stack of a reader. The text has been decoded: in one
    # with a string that never ends, the expression would take quadratic time.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += (bracket in "[{") - (bracket in "]}")
        if depth > MAX_DEPTH:
            raise InvalidEvent(_TOO_DEEP)


def _check_numbers(envelope: Envelope) -> None:
    if envelope.sequence is not UNSET or envelope.position is not UNSET:
        raise InvalidEvent("sequence and position are assigned at commit, not by the producer")


def _check_subject(subject: str, envelope: Envelope, partition: int) -> None:
    address = _parse_subject(subject, partition)
    if address.session_id != envelope.subject or address.tenant != envelope.tenant:
        raise InvalidEvent(
            f"published on {subject}, but belongs to session {envelope.subject}, tenant {envelope.tenant}"
        )
    try:
        family = family_of(envelope.type)
    except UnknownEventType:
        return  # from a newer producer
    if address.family != family:
        raise InvalidEvent(f"published on {subject}, but {envelope.type} belongs to family {family}")


@lru_cache(maxsize=8192)  # of subjects, which the broker limits to 4 KiB
def _parse_subject(subject: str, partition: int) -> EventSubject:
    try:
        address = parse_event_subject(subject)
    except ValueError as error:
        raise InvalidEvent(str(error)) from error
    expected = partition_of(address.session_id)
    if not address.partition == partition == expected:
        raise InvalidEvent(f"published on {subject}, but its session belongs to partition {expected}")
    return address


def _check_body(envelope: Envelope) -> None:
    try:
        open_event(envelope)
    except (UnknownEventType, UnsupportedEventVersion):
        return
