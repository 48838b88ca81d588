"""What fits the log: producers ask before they publish, ingest asks again."""

import re
from functools import lru_cache

from msgspec import UNSET

from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import (
    InvalidBody,
    InvalidEvent,
    MalformedEvent,
    UnknownEventType,
    UnsupportedEventVersion,
)
from antiphon.contracts.event import Event
from antiphon.contracts.registry import family_of, open_event
from antiphon.contracts.subjects import EventSubject, parse_event_subject, partition_of

MAX_DEPTH = 100  # levels of nesting of an event, with its envelope
MAX_SUBJECT = 200  # characters; those of valid subjects are fewer

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')  # a string is matched as a whole
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def validate_event(subject: str, payload: bytes) -> tuple[Envelope, str]:
    """Return the envelope of a message and its text, if the message can be part of the log.

    Unknown event types and newer versions are valid: readers that do not know them skip them.
    Raises MalformedEvent and InvalidEvent, and InvalidBody if the fault is in what a client can send.
    """
    envelope, _, text = validated_event(subject, payload)
    return envelope, text


def validated_event(subject: str, payload: bytes) -> tuple[Envelope, Event | None, str]:
    """As `validate_event`, with the event, which is decoded for it; None if this version does not know it."""
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"UnicodeDecodeError: {error}") from error
    envelope = _envelope(text)
    if is_nested_deeper(text, MAX_DEPTH):
        raise InvalidBody(_TOO_DEEP)
    if envelope.sequence is not UNSET or envelope.position is not UNSET:
        raise InvalidEvent("sequence and position are assigned at commit, not by the producer")
    if "\\u0000" in text:
        _check_texts(envelope)
    _check_subject(subject, envelope)
    return envelope, _event(envelope), text


def is_nested_deeper(text: str, levels: int) -> bool:
    """Return whether a JSON text that can be decoded is nested deeper than some levels."""
    # Decoders recurse: deep nesting could exhaust the stack of a reader. In a text that cannot be decoded,
    # with a string that never ends, the expression would take quadratic time.
    if text.count("[") + text.count("{") <= levels:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += (bracket in "[{") - (bracket in "]}")
        if depth > levels:
            return True
    return False


def _envelope(text: str) -> Envelope:
    try:
        return decode(text)
    except MalformedEvent as error:
        if isinstance(error.__cause__, RecursionError):
            raise InvalidBody(_TOO_DEEP) from error
        raise


def _check_texts(envelope: Envelope) -> None:
    # the body may have it: the log keeps it as JSON, the envelope in columns
    for name in envelope.__struct_fields__:
        value = getattr(envelope, name)
        if isinstance(value, str) and "\0" in value:
            raise InvalidEvent(f"{name} contains the character NUL, which Postgres cannot store")


def _check_subject(subject: str, envelope: Envelope) -> None:
    if len(subject) > MAX_SUBJECT:
        raise InvalidEvent(f"its subject has {len(subject)} characters; the limit is {MAX_SUBJECT}")
    address = _parse_subject(subject)
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


@lru_cache(maxsize=8192)  # of at most MAX_SUBJECT characters
def _parse_subject(subject: str) -> EventSubject:
    try:
        address = parse_event_subject(subject)
    except ValueError as error:
        raise InvalidEvent(str(error)) from error
    expected = partition_of(address.session_id)
    if address.partition != expected:
        raise InvalidEvent(f"published on {subject}, but its session belongs to partition {expected}")
    return address


def _event(envelope: Envelope) -> Event | None:
    try:
        return open_event(envelope)
    except (UnknownEventType, UnsupportedEventVersion):
        return None
    except MalformedEvent as error:
        raise InvalidBody(str(error)) from error
