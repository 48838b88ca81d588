"""`antiphon tail`: the events of one session, or of all, as they are committed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from time import monotonic

from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.screen import out
from antiphon.cli.timeline import Timeline
from antiphon.client import AsyncAntiphon, Session
from antiphon.contracts.session import TERMINAL, Status

POLL_SECONDS = 1.0
STREAMS = 30  # open at the same time; more sessions show their start and wait for one
STARTS = 8  # sessions whose start is read at the same time
# A session may be in the list later than a newer one: partitions of the log are read independently.
LATE = timedelta(seconds=10)
VERY_LATE = timedelta(minutes=10)
VERY_LATE_SECONDS = 30.0  # between two looks for those that are very late
LIVE = [str(status) for status in Status if status not in TERMINAL]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def print_live(session: str | None) -> None:
    """Print the events of one session, or of all sessions that have not ended, as they are committed."""
    async with open_api() as client:
        if session is not None:
            await print_events(client, session)
            return
        try:
            await follow_all(client)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def print_events(client: AsyncAntiphon, session: str) -> None:
    """Print one session's events, past and live, to its last."""
    timeline = Timeline()
    async with aclosing(client.sessions.stream(session)) as events:
        async for event in events:
            out.print(timeline.line(event))


async def follow_all(client: AsyncAntiphon) -> None:
    """Print the events of every session that has not ended, and of every session from now on."""
    sessions, slots = Newcomers(client), Slots()
    async with asyncio.TaskGroup() as following:
        while True:
            async for session in sessions.look():
                following.create_task(_follow(client, slots, session.session_id))
            await asyncio.sleep(POLL_SECONDS)


class Slots:
    """How many sessions are read at the same time: their starts, and their streams."""

    def __init__(self) -> None:
        self.starts = asyncio.Semaphore(STARTS)
        self.streams = asyncio.Semaphore(STREAMS)


async def _follow(client: AsyncAntiphon, slots: Slots, session: str) -> None:
    timeline, prefix = Timeline(), Text(f"…{session[-6:]}  ", style="bold")
    after = 0
    async with slots.starts:
        async for event in client.sessions.events(session):
            out.print(prefix + timeline.line(event))
            after = event.sequence
    if slots.streams.locked():
        out.print(prefix + Text(f"waits: the {STREAMS} sessions before it are still live", style="dim"))
    async with slots.streams, aclosing(client.sessions.stream(session, after=after)) as events:
        async for event in events:
            out.print(prefix + timeline.line(event))


class Newcomers:
    """The sessions of the list that were not seen before, whatever the order in which they come."""

    def __init__(self, client: AsyncAntiphon) -> None:
        self._client = client
        self._seen: dict[str, datetime] = {}
        self._began: datetime | None = None  # when the newest session at the start was created
        self._newest = LONG_AGO
        self._looked_back = monotonic()

    async def look(self) -> AsyncIterator[Session]:
        """Yield new sessions, the oldest first: at the first time those that have not ended."""
        if self._began is None:
            async for newest in self._client.sessions.list(limit=1):
                self._newest = newest.created_at or LONG_AGO
            self._began = self._newest
            found = [session async for session in self._client.sessions.list(status=LIVE)]
        else:
            found = await self._since(self._horizon())
        for session in reversed(found):
            created_at = session.created_at or self._newest
            ended_before = session.ended and created_at <= self._began
            if session.session_id not in self._seen and not ended_before:
                yield session
            self._seen[session.session_id] = created_at
            self._newest = max(self._newest, created_at)
        self._forget()

    def _horizon(self) -> datetime:
        late = LATE
        if monotonic() - self._looked_back > VERY_LATE_SECONDS:
            self._looked_back, late = monotonic(), VERY_LATE
        return self._newest - late

    async def _since(self, horizon: datetime) -> list[Session]:
        found = []
        async with aclosing(self._client.sessions.list()) as sessions:
            async for session in sessions:
                if session.created_at is not None and session.created_at < horizon:
                    break
                found.append(session)
        return found

    def _forget(self) -> None:
        oldest = self._newest - 2 * VERY_LATE
        if len(self._seen) > 1_000:
            self._seen = {name: at for name, at in self._seen.items() if at >= oldest}
