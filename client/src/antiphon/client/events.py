"""An event of a session, with its typed body."""

import json
from datetime import datetime
from functools import cached_property
from typing import Any

from msgspec import UNSET

from antiphon.client.errors import UnreadableResponse
from antiphon.contracts.envelope import Envelope, decode, encode
from antiphon.contracts.errors import ContractError, MalformedEvent
from antiphon.contracts.event import Event
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import TERMINAL_TYPES

MAX_DIGITS = 4_000  # Python converts no more to a number; an event may hold more


class SessionEvent:
    """A committed event of a session; `sequence` is 1 for its first event, and has no gaps.

    `body` is the event as the class of its type, `antiphon.contracts.events`; None for an event that this
    version of the client does not know. `data` is the body as a dictionary, known or not. `cursor` resumes
    a tenant's events after this one; only those of a stream have it, and the last of each page.
    """

    def __init__(self, envelope: Envelope) -> None:
        if envelope.sequence is UNSET:
            raise UnreadableResponse("the event is not committed: it has no sequence")
        self.envelope = envelope
        self.sequence: int = envelope.sequence
        self.cursor: str | None = None

    @classmethod
    def parse(cls, raw: bytes) -> "SessionEvent":
        """Return the event of a JSON document.

        Raises UnreadableResponse.
        """
        try:
            return cls(decode(raw))
        except MalformedEvent as error:
            raise UnreadableResponse(f"not an event: {error}") from error

    @property
    def id(self) -> str:
        """The event's id, the same in every copy of it."""
        return self.envelope.id

    @property
    def type(self) -> str:
        """The event's type, as `turn.saved`."""
        return self.envelope.type

    @property
    def session_id(self) -> str:
        """The session that the event belongs to."""
        return self.envelope.subject

    @property
    def time(self) -> datetime:
        """When it occurred."""
        return self.envelope.time

    @property
    def terminal(self) -> bool:
        """Whether the session ends with this event; some events of its room may follow."""
        return self.envelope.type in TERMINAL_TYPES

    @cached_property
    def body(self) -> Event | None:
        """The typed body, or None if this version does not know the type or its version."""
        try:
            return open_event(self.envelope)
        except ContractError:
            return None

    @cached_property
    def data(self) -> dict[str, Any]:
        """The body as a dictionary; a number of more than 4,000 digits is its text.

        Raises UnreadableResponse for a body that is no object, or is nested too deep.
        """
        try:
            data = json.loads(bytes(self.envelope.data), parse_int=_number)
        except (ValueError, RecursionError) as error:
            raise UnreadableResponse(f"the body of event {self.sequence} cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise UnreadableResponse(f"the body of event {self.sequence} is not an object")
        return data

    def to_json(self) -> bytes:
        """Return the whole event as JSON."""
        return encode(self.envelope)

    def __repr__(self) -> str:
        return f"<SessionEvent {self.sequence} {self.type} of {self.session_id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SessionEvent) and self.envelope == other.envelope

    def __hash__(self) -> int:
        return hash((self.envelope.subject, self.sequence))


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits
