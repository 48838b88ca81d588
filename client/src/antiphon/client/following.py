"""Following a session's stream: what arrived, and when it is over."""

from collections.abc import Callable

from antiphon.client.calls import Reply
from antiphon.client.errors import InvalidArgument, UnreadableResponse
from antiphon.client.events import SessionEvent
from antiphon.client.reconnecting import GIVE_UP_SECONDS, Reconnecting, State
from antiphon.client.sessions import path_of
from antiphon.client.sse import TooLong

TAIL_SECONDS = 30.0  # after the terminal event; a server ends the stream at most 10 s after it
CONFIRM_SECONDS = 15.0  # after the last event, from when on an empty stream confirms the end


class Following(Reconnecting):
    """A stream across all its connections, without I/O: every event once, in order, without a gap.

    After the terminal event the rest is asked for until the server says that nothing follows (204), or sent
    nothing on a connection that ended when nothing could follow any more.
    """

    def __init__(
        self, session_id: str, after: int, now: Callable[[], float], *, give_up: float = GIVE_UP_SECONDS
    ) -> None:
        if after < 0:
            raise InvalidArgument("after takes a sequence, 0 or more")
        super().__init__(path_of(session_id, "events"), (), now, give_up)
        self.after = after
        self._ending_since: float | None = None  # the last event, from the terminal one on
        self._confirms = False  # this connection began after the terminal event

    def _place(self) -> int:
        return self.after

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether it is a stream to read.

        Raises UnreadableResponse for a page that is no stream.
        """
        if reply.status == 204:
            self._state = State.END
        opened = super().opened(reply)
        if opened:
            self._confirms = self._ending_since is not None
        return opened

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
            self._note_alive()
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

    def closed(self) -> None:
        """Take the server's end of a stream; one that brought nothing is a failure of the connection."""
        if self.reading and self._ending_since is not None:
            self._take_retry()
            ended = self._confirms and self._quiet_for(CONFIRM_SECONDS)
            self._state = State.END if ended else State.CONNECT
        else:
            super().closed()

    def pause(self) -> float:
        """Return the seconds to wait before the next connection.

        Raises the last error when nothing but failures came for too long.
        """
        if self._ending_since is not None and not self._confirms and not self._failures:
            return 0.0  # only to ask whether anything follows
        return super().pause()
