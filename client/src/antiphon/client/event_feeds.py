"""Iterators over the events of all sessions, which know the cursor to resume from."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Protocol, Self

from antiphon.client.events import SessionEvent


class HasCursor(Protocol):
    """Where a feed has got to."""

    cursor: str | None


class EventFeed(Iterator[SessionEvent]):
    """Events of all sessions; `cursor` resumes after those that were yielded.

    In the middle of a page it is still that of the page's start; it is None before the first.
    """

    def __init__(self, events: Generator[SessionEvent, None, None], place: HasCursor) -> None:
        self._events = events
        self._place = place

    @property
    def cursor(self) -> str | None:
        """Where to go on later, as `after`."""
        return self._place.cursor

    def __next__(self) -> SessionEvent:
        return next(self._events)

    def close(self) -> None:
        """Close the connection of a stream."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncEventFeed(AsyncIterator[SessionEvent]):
    """Events of all sessions; `cursor` resumes after those that were yielded.

    In the middle of a page it is still that of the page's start; it is None before the first.
    """

    def __init__(self, events: AsyncGenerator[SessionEvent, None], place: HasCursor) -> None:
        self._events = events
        self._place = place

    @property
    def cursor(self) -> str | None:
        """Where to go on later, as `after`."""
        return self._place.cursor

    async def __anext__(self) -> SessionEvent:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Close the connection of a stream."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
