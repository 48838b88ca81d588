"""Tell what belongs in the log from what never can."""

import re
from functools import lru_cache

from msgspec import UNSET, Struct

from antiphon.chassis.bus import Incoming
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.registry import family_of, open_event
from antiphon.contracts.subjects import EventSubject, parse_event_subject, partition_of

DEEPEST = 100  # levels of nesting

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')  # a string is skipped whole


class Unfit(Exception):
    """The message can never be part of the log."""


class Entry(Struct, frozen=True, gc=False):
    """Hold an event on its way into the log; `text` is the envelope exactly as published."""

    incoming: Incoming
    envelope: Envelope
    text: str


class DeadLetter(Struct, frozen=True, gc=False):
    """Hold a message that is set aside, and why."""

    incoming: Incoming
    error: str


Judged = Entry | DeadLetter


def judge(incoming: Incoming, partition: int) -> Judged:
    """Make a log entry of a message, or a dead letter when it can never be one."""
    try:
        text = incoming.payload.decode()
        _check_depth(text)
        envelope = decode(text)
        _check_numbers(envelope)
        _check_address(incoming.subject, envelope, partition)
        _check_body(envelope)
    except (Unfit, MalformedEvent, UnicodeDecodeError) as error:
        return DeadLetter(incoming, f"{type(error).__name__}: {error}")
    return Entry(incoming, envelope, text)


def _check_depth(text: str) -> None:
    # Decoders recurse: what is nested too deep would end a reader, not only be refused by it.
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += (bracket in "[{") - (bracket in "]}")
        if depth > DEEPEST:
            raise Unfit(f"nested deeper than {DEEPEST} levels")


def _check_numbers(envelope: Envelope) -> None:
    if envelope.sequence is not UNSET or envelope.position is not UNSET:
        raise Unfit("sequence and position are given at commit, not by the producer")


def _check_address(subject: str, envelope: Envelope, partition: int) -> None:
    address = _address(subject, partition)
    if address.session_id != envelope.subject or address.tenant != envelope.tenant:
        raise Unfit(f"came on {subject}, but is of session {envelope.subject}, tenant {envelope.tenant}")
    try:
        family = family_of(envelope.type)
    except UnknownEventType:
        return  # a newer producer knows its family
    if address.family != family:
        raise Unfit(f"came on {subject}, but {envelope.type} is of family {family}")


@lru_cache(maxsize=8192)
def _address(subject: str, partition: int) -> EventSubject:
    try:
        address = parse_event_subject(subject)
    except ValueError as error:
        raise Unfit(str(error)) from error
    if not address.partition == partition == partition_of(address.session_id):
        raise Unfit(f"came on {subject}, but its session is of partition {partition_of(address.session_id)}")
    return address


def _check_body(envelope: Envelope) -> None:
    try:
        open_event(envelope)
    except (UnknownEventType, UnsupportedEventVersion):
        return  # stored as it is: the log is the truth, and readers skip what they do not know
