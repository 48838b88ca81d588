"""The client of session-api with events and sessions as JSON's objects, which journeys compare."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import msgspec

from antiphon.client import AsyncAntiphon

Json = dict[str, Any]


class SessionApi:
    """The client, and what it gives as objects."""

    def __init__(self, url: str, key: str) -> None:
        self.client = AsyncAntiphon(url, key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def create(self, flow: str | None, user: str, *, agent_name: str | None = None) -> Json:
        """Create a session of a flow or an agent."""
        created = await self.client.sessions.create(flow_id=flow, agent_name=agent_name, user_id=user)
        return msgspec.structs.asdict(created)

    async def session(self, session_id: str) -> Json:
        """Return one session."""
        return msgspec.structs.asdict(await self.client.sessions.get(session_id))

    async def turns(self, session_id: str) -> AsyncIterator[Json]:
        """Iterate over a session's turns in order."""
        async for turn in self.client.sessions.turns(session_id):
            yield msgspec.structs.asdict(turn)

    async def events(self, session_id: str) -> AsyncIterator[Json]:
        """Iterate over a session's committed events in order."""
        async for event in self.client.sessions.events(session_id):
            yield msgspec.json.decode(event.to_json())

    async def follow(self, session_id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Iterate over a session's events, past and live, to its terminal one."""
        async with aclosing(self.client.sessions.stream(session_id, after=after)) as events:
            async for event in events:
                yield msgspec.json.decode(event.to_json())
                if event.terminal:
                    return
