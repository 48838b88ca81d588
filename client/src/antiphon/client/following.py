"""Following a session's stream: what to ask for, what arrived, when to reconnect, and when it is over."""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from random import uniform
from typing import Protocol, TypeVar

from antiphon.client.calls import Call, Reply
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
from antiphon.client.sessions import path_of
from antiphon.client.sse import EventStreamParser, TooLong

MEDIA_TYPE = "text/event-stream"
WATCHDOG_SECONDS = 45.0  # without a byte; the server sends a comment every 15 s
GIVE_UP_SECONDS = 300.0  # of failures without an event or a heartbeat between them
TAIL_SECONDS = 30.0  # after the terminal event; a server ends the stream at most 10 s after it
CONFIRM_SECONDS = 15.0  # after the last event, from when on an empty stream confirms the end
RETRY_SECONDS = 1.0  # until the server says otherwise
LONGEST_RETRY_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 15.0
DAMAGED_TRIES = 3  # at the same place

T_co = TypeVar("T_co", covariant=True)


class Resuming(Protocol[T_co]):
    """What arrives in pieces over connections that break, without I/O: see `Following`."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""

    @property
    def reading(self) -> bool:
        """Whether the connection has more to read."""

    def call(self) -> Call[None]:
        """Return the request of the next connection."""

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether it is to be read."""

    def refused(self, reply: Reply) -> None:
        """Take another answer, read to its end."""

    def received(self, chunk: bytes) -> Sequence[T_co]:
        """Return what a chunk completes."""

    def closed(self) -> None:
        """Take the server's end of an answer."""

    def broke(self, error: AntiphonError) -> None:
        """Take the failure of a connection."""

    def pause(self) -> float:
        """Return the seconds to wait before the next connection."""


class State(Enum):
    """What a client has to do next."""

    CONNECT = auto()
    READ = auto()
    END = auto()


class Following:
    """A stream across all its connections, without I/O: every event once, in order, without a gap.

    After the terminal event the rest is asked for until the server says that nothing follows (204), or sent
    nothing on a connection that ended when nothing could follow any more.
    """

    def __init__(
        self, session_id: str, after: int, now: Callable[[], float], *, give_up: float = GIVE_UP_SECONDS
    ) -> None:
        if after < 0:
            raise InvalidArgument("after takes a sequence, 0 or more")
        self.after = after
        self._state = State.CONNECT
        self._path = path_of(session_id, "events")
        self._now = now
        self._give_up = give_up
        self._parser = EventStreamParser()
        self._ending_since: float | None = None  # the last event, from the terminal one on
        self._confirms = False  # this connection began after the terminal event
        self._alive = False  # this connection brought an event or a comment
        self._retry_seconds = RETRY_SECONDS
        self._retry_after: float | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._error: AntiphonError = ConnectionFailed("the server ended the stream again and again")
        self._damaged = (0, 0)  # a sequence, and how often the stream was damaged after it

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
        headers = {
            "Accept": MEDIA_TYPE,
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "Last-Event-ID": str(self.after),
        }
        return Call(method="GET", path=self._path, headers=headers, parse=lambda _: None)

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether it is a stream to read.

        Raises UnreadableResponse for a page that is no stream.
        """
        if reply.status == 204:
            self._state = State.END
        if reply.status != 200:
            return False
        if not reply.headers.get("content-type", "").startswith(MEDIA_TYPE):
            raise UnreadableResponse("the answer is not an event stream: is base_url session-api's address?")
        self._parser = EventStreamParser()
        self._confirms = self._ending_since is not None
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

    def received(self, chunk: bytes) -> list[SessionEvent]:
        """Return the events that a chunk completes.

        Raises StreamBroken if the stream is damaged at the same place for the third time.
        """
        found: list[SessionEvent] = []
        comments = self._parser.comments
        try:
            for message in self._parser.feed(chunk):
                event = SessionEvent.parse(message.data)
                if self._advance(event):
                    found.append(event)
        except (TooLong, UnreadableResponse) as error:
            self._damage(error)
        if found or self._parser.comments > comments:
            self._alive, self._failures, self._failing_since = True, 0, None
        if not found and self._quiet_for(TAIL_SECONDS):
            self._state = State.END
        return found

    def _quiet_for(self, seconds: float) -> bool:
        return self._ending_since is not None and self._now() > self._ending_since + seconds

    def _advance(self, event: SessionEvent) -> bool:
        if event.sequence <= self.after:
            return False
        if event.sequence > self.after + 1:
            raise UnreadableResponse(f"after event {self.after} came {event.sequence}")
        self.after = event.sequence
        if event.terminal or self._ending_since is not None:
            self._ending_since = self._now()
        return True

    def _damage(self, error: Exception) -> None:
        at, times = self._damaged
        times = times + 1 if at == self.after else 1
        self._damaged = (self.after, times)
        if times >= DAMAGED_TRIES:
            raise StreamBroken(
                f"the stream is damaged after event {self.after}: {error}", self.after
            ) from error
        self.broke(UnreadableResponse(str(error)))

    def closed(self) -> None:
        """Take the server's end of a stream; one that brought nothing is a failure of the connection."""
        self._take_retry()
        if self._state is not State.READ:
            return
        if self._confirms and self._quiet_for(CONFIRM_SECONDS):
            self._state = State.END
        elif self._alive or self._ending_since is not None:
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

    def _take_retry(self) -> None:
        if self._parser.retry_seconds is not None:
            self._retry_seconds = min(self._parser.retry_seconds, LONGEST_RETRY_SECONDS)

    def pause(self) -> float:
        """Return the seconds to wait before the next connection.

        Raises the last error when nothing but failures came for too long.
        """
        if self._ending_since is not None and not self._confirms and not self._failures:
            return 0.0  # only to ask whether anything follows
        if self._failing_since is not None and self._now() - self._failing_since > self._give_up:
            raise self._error
        wait = self._retry_seconds * uniform(1.0, 1.5)
        if self._failures > 1:
            wait = max(wait, backoff(self._failures, longest=LONGEST_BACKOFF_SECONDS))
        return wait if self._retry_after is None else max(wait, self._retry_after)
