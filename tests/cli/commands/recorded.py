"""A client that answers with sessions, turns and events that a test gives it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from antiphon.client import Ending, Session, SessionEvent, Turn
from antiphon.contracts.envelope import Envelope

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


def event(sequence: int, kind: str, data: Any) -> SessionEvent:
    """Return a committed event with any type and body."""
    return SessionEvent(
        Envelope(
            id="an-id",
            source="/test",
            type=kind,
            subject=SESSION,
            time=NOW,
            dataschema="https://antiphon.dev/schemas/any/1",
            data=msgspec.Raw(data if isinstance(data, bytes) else msgspec.json.encode(data)),
            tenant="default",
            producer="test",
            producerseq=0,
            sequence=sequence,
        )
    )


class RecordedSessions:
    """The part `sessions` of a client."""

    def __init__(self, session: Session, turns: list[Turn], events: list[SessionEvent]) -> None:
        self.session = session
        self._turns = turns
        self._events = events
        self.filters: dict[str, Any] = {}
        self.moment: dict[str, Any] = {}
        self.moment_of_turns: dict[str, Any] = {}

    async def list(self, *, limit: int, **filters: Any) -> AsyncIterator[Session]:
        """Iterate over the session, if it is in the room."""
        self.filters = filters
        if filters.get("room") in {None, self.session.room}:
            yield self.session

    async def get(self, session_id: str, **moment: Any) -> Session:
        """Return the session, as it was with all its events."""
        self.moment = moment
        return self.session

    async def turns(self, session_id: str, **moment: Any) -> AsyncIterator[Turn]:
        """Iterate over the turns."""
        self.moment_of_turns = moment
        for turn in self._turns:
            yield turn

    async def events(
        self, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[SessionEvent]:
        """Iterate over the events."""
        for one in [event for event in self._events if event.sequence > after][:limit]:
            yield one

    async def stream(self, session_id: str) -> AsyncIterator[SessionEvent]:
        """Iterate over the events."""
        for one in self._events:
            yield one

    async def end(self, session_id: str) -> Ending:
        """End the session."""
        return Ending(session_id=session_id, ended=self.session.ended)


class Recorded:
    """A client; `open_api` is a replacement of the one that commands use."""

    def __init__(self, session: Session, turns: list[Turn], events: list[SessionEvent]) -> None:
        self.sessions = RecordedSessions(session, turns, events)

    @asynccontextmanager
    async def open_api(self) -> "AsyncIterator[Recorded]":
        """Open the client."""
        yield self
