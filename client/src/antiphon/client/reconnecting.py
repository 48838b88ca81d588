"""A stream across all its connections: what to ask for, what a connection brought, when to try again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from enum import Enum, auto
from random import uniform

from antiphon.client.calls import Call, Params, Reply
from antiphon.client.errors import (
    AntiphonError,
    ConnectionFailed,
    InvalidArgument,
    ServerUnavailable,
    StreamBroken,
    TlsFailed,
    UnreadableResponse,
)
from antiphon.client.events import SessionEvent
from antiphon.client.retry import backoff
from antiphon.client.sse import EventStreamParser

MEDIA_TYPE = "text/event-stream"
WATCHDOG_SECONDS = 45.0  # without a byte; the server sends a comment every 15 s
GIVE_UP_SECONDS = 300.0  # of failures without an event or a heartbeat between them
RETRY_SECONDS = 1.0  # until the server says otherwise
LONGEST_RETRY_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 15.0
DAMAGED_TRIES = 3  # at the same place


class State(Enum):
    """What a client has to do next."""

    CONNECT = auto()
    READ = auto()
    END = auto()


class Reconnecting(ABC):
    """A stream of events without I/O; subclasses know the place that it has reached, and its end."""

    def __init__(self, path: str, params: Params, now: Callable[[], float], give_up: float) -> None:
        self._state = State.CONNECT
        self._path = path
        self._params = params
        self._now = now
        self._give_up = give_up
        self._parser = EventStreamParser()
        self._alive = False  # this connection brought an event or a comment
        self._retry_seconds = RETRY_SECONDS
        self._retry_after: float | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._error: AntiphonError = ConnectionFailed("the server ended the stream again and again")
        self._damaged: tuple[int | str, int] = ("", 0)  # a place, and how often the stream was damaged there

    @abstractmethod
    def received(self, chunk: bytes) -> Iterable[SessionEvent]:
        """Return the events that a chunk completes.

        Raises StreamBroken if the stream is damaged at the same place for the third time.
        """

    @abstractmethod
    def _place(self) -> int | str:
        """Return what the next connection resumes after; "" is nothing yet."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self._state is State.END

    @property
    def reading(self) -> bool:
        """Whether the connection has more to read."""
        return self._state is State.READ

    def call(self) -> Call[None]:
        """Return the request of the next connection."""
        headers = {"Accept": MEDIA_TYPE, "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        place = self._place()
        if place != "":
            headers["Last-Event-ID"] = str(place)
        return Call(method="GET", path=self._path, params=self._params, headers=headers, parse=lambda _: None)

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether it is a stream to read.

        Raises UnreadableResponse for a page that is no stream.
        """
        if reply.status != 200:
            return False
        if not reply.headers.get("content-type", "").startswith(MEDIA_TYPE):
            raise UnreadableResponse("the answer is not an event stream: is base_url session-api's address?")
        self._parser = EventStreamParser()
        self._alive = False
        self._retry_after = None
        self._state = State.READ
        return True

    def refused(self, reply: Reply) -> None:
        """Take an answer that is not a stream, read to its end.

        Raises ApiError, unless it says to try again later.
        """
        error = reply.error()
        if reply.status != 429 and not isinstance(error, ServerUnavailable):
            raise error
        self._retry_after = error.retry_after
        self.broke(error)

    def closed(self) -> None:
        """Take the server's end of a stream; one that brought nothing is a failure of the connection."""
        self._take_retry()
        if self._state is not State.READ:
            return
        if self._alive:
            self._state = State.CONNECT
        else:
            self.broke(ConnectionFailed("the server ended the stream again and again, without an event"))

    def broke(self, error: AntiphonError) -> None:
        """Take the failure of a connection.

        Raises it if another attempt would fail in the same way.
        """
        if isinstance(error, InvalidArgument | TlsFailed):
            raise error
        self._take_retry()
        self._error = error
        self._failures += 1
        self._failing_since = self._now() if self._failing_since is None else self._failing_since
        self._state = State.CONNECT

    def pause(self) -> float:
        """Return the seconds to wait before the next connection.

        Raises the last error when nothing but failures came for too long.
        """
        if self._failing_since is not None and self._now() - self._failing_since > self._give_up:
            raise self._error
        wait = self._retry_seconds * uniform(1.0, 1.5)
        if self._failures > 1:
            wait = max(wait, backoff(self._failures, longest=LONGEST_BACKOFF_SECONDS))
        return wait if self._retry_after is None else max(wait, self._retry_after)

    def _note_alive(self) -> None:
        self._alive, self._failures, self._failing_since = True, 0, None

    def _damage(self, error: Exception) -> None:
        place = self._place()
        at, times = self._damaged
        times = times + 1 if at == place else 1
        self._damaged = (place, times)
        if times >= DAMAGED_TRIES:
            raise StreamBroken(f"the stream is damaged after event {place}: {error}", place) from error
        self.broke(UnreadableResponse(str(error)))

    def _take_retry(self) -> None:
        if self._parser.retry_seconds is not None:
            self._retry_seconds = min(self._parser.retry_seconds, LONGEST_RETRY_SECONDS)
