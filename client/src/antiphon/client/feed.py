"""The events of all sessions: pages and a stream, as what to ask for and what arrived, without I/O."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from antiphon.client.calls import Call, Params, Reply, as_params, decoded, given
from antiphon.client.errors import InvalidArgument, UnreadableResponse
from antiphon.client.events import SessionEvent
from antiphon.client.reconnecting import GIVE_UP_SECONDS, Reconnecting
from antiphon.client.sse import Message, TooLong

PATH = "/v1/events"
EVENTS_A_PAGE = 500


class FeedPage(Struct, frozen=True):
    """A page of events, the cursor after it, and whether there are more now."""

    items: list[Raw]
    next: str
    more: bool


_page = msgspec.json.Decoder(FeedPage)


def _params(
    types: str | Sequence[str] | None,
    families: str | Sequence[str] | None,
    session_id: str | None,
    flow_id: str | None,
    after: str | None,
    since: datetime | str | None,
) -> Params:
    if after is not None and since is not None:
        raise InvalidArgument("pass after or since, not both")
    return as_params(
        given(
            type=types if isinstance(types, str | None) else list(types),
            family=families if isinstance(families, str | None) else list(families),
            session_id=session_id,
            flow_id=flow_id,
            after=after,
            since=since,
        )
    )


def events(
    *,
    types: str | Sequence[str] | None = None,
    families: str | Sequence[str] | None = None,
    session_id: str | None = None,
    flow_id: str | None = None,
    after: str | None = None,
    since: datetime | str | None = None,
    limit: int | None = None,
    page_size: int = EVENTS_A_PAGE,
    timeout: float | None = None,
) -> "FeedReading":
    """Iterate over the committed events of all sessions, in the order of each, to the newest of now.

    `after` is `start`, the default, `now` or a cursor, and `since` a time. `limit` is the most events in
    all, `page_size` the number that one request asks for, `timeout` the seconds for each page.
    """
    params = _params(types, families, session_id, flow_id, after, since)
    return FeedReading(params, limit=limit, page_size=page_size, timeout_seconds=timeout)


def stream_events(
    *,
    types: str | Sequence[str] | None = None,
    families: str | Sequence[str] | None = None,
    session_id: str | None = None,
    flow_id: str | None = None,
    after: str | None = None,
    since: datetime | str | None = None,
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> "FeedFollowing":
    """Iterate over the events of all sessions, past and live, in the order of each, without end.

    `after` is `start`, the default, `now` or a cursor, and `since` a time. A broken connection is made
    again, and the stream resumes after the last event received. Raises ApiError when the server refuses it,
    and the last error after `give_up_seconds` of failures.
    """
    params = _params(types, families, session_id, flow_id, after, since)
    return FeedFollowing(params, time.monotonic, give_up=give_up_seconds)


class FeedReading:
    """The way through the pages: `call` is the next one to get, or None after the last.

    `cursor` resumes after what was taken; in the middle of a page it is still that of the page's start.
    """

    def __init__(
        self,
        params: Params,
        *,
        limit: int | None = None,
        page_size: int = EVENTS_A_PAGE,
        timeout_seconds: float | None = None,
    ) -> None:
        if page_size < 1 or (limit is not None and limit < 0):
            raise InvalidArgument("limit takes 0 or more, page_size 1 or more")
        self.cursor: str | None = None
        self._params = params
        self._left = limit
        self._page_size = page_size
        self._timeout_seconds = timeout_seconds
        self.call: Call[FeedPage] | None = None if limit == 0 else self._next()

    def take(self, page: FeedPage) -> Iterator[SessionEvent]:
        """Yield the events of a page, and advance to the next."""
        events = [SessionEvent.parse(bytes(raw)) for raw in page.items]
        self._left = None if self._left is None else self._left - len(events)
        before = self.cursor
        for event in events[:-1]:
            yield event
        self.cursor = page.next
        self.call = self._next() if page.more and self._left != 0 else None
        if self.call is not None and not events and page.next == before:
            raise UnreadableResponse("the server sent the same page twice")
        for event in events[-1:]:
            event.cursor = page.next
            yield event

    def _next(self) -> Call[FeedPage]:
        size = self._page_size if self._left is None else min(self._page_size, self._left)
        params = [*self._params, ("limit", str(size))]
        if self.cursor is not None:
            started = ("after", "since")
            params = [pair for pair in params if pair[0] not in started] + [("after", self.cursor)]
        return Call(
            method="GET", path=PATH, params=params, parse=_parse, timeout_seconds=self._timeout_seconds
        )


def _parse(reply: Reply) -> FeedPage:
    return decoded(_page, reply.body)


class FeedFollowing(Reconnecting):
    """A stream of events across all its connections: each once, in the order of its session, without end.

    `cursor` resumes after the last event that was yielded, and after what the filter left out.
    """

    def __init__(self, params: Params, now: Callable[[], float], *, give_up: float = GIVE_UP_SECONDS) -> None:
        super().__init__(PATH, params, now, give_up)
        self.cursor: str | None = None

    def _place(self) -> str:
        return self.cursor or ""

    def received(self, chunk: bytes) -> Iterator[SessionEvent]:
        """Yield the events that a chunk completes.

        Raises StreamBroken if the stream is damaged at the same place for the third time.
        """
        comments = self._parser.comments
        try:
            for message in self._parser.feed(chunk):
                event = _received(message)
                self.cursor = event.cursor
                self._note_alive()
                yield event
        except (TooLong, UnreadableResponse) as error:
            self._damage(error)
            return
        self.cursor = self._parser.last_id or self.cursor
        if self._parser.comments > comments:
            self._note_alive()


def _received(message: Message) -> SessionEvent:
    event = SessionEvent.parse(message.data)
    if not message.id:
        raise UnreadableResponse("an event of the stream has no id to resume after")
    event.cursor = message.id
    return event
