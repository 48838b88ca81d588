"""Exporting events: what to ask for, what arrived, and where to go on after a broken connection."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TypedDict

import msgspec
from msgspec import Struct

from antiphon.client.calls import Call, Params, Reply, as_params, given
from antiphon.client.errors import (
    AntiphonError,
    ConnectionFailed,
    InvalidArgument,
    RateLimited,
    ServerUnavailable,
    TlsFailed,
    UnreadableResponse,
)
from antiphon.client.events import SessionEvent
from antiphon.client.reconnecting import GIVE_UP_SECONDS, LONGEST_BACKOFF_SECONDS, State
from antiphon.client.retry import backoff

PATH = "/v1/events/export"
MEDIA_TYPE = "application/x-ndjson"
MAX_BATCH_BYTES = 64 << 20  # the server sends about 4 MiB between two control lines
CONTROL = b'{"cursor":'  # how a control line begins, and no event


class _Control(Struct):
    cursor: str
    until: str
    tenant: str
    progress: float = 0.0
    complete: bool = False


class ExportedBatch:
    """Events of an export, whole: `cursor` is after all of them, `complete` says that none follows.

    `lines` are the events as JSON. An export with this `cursor` and this `until` goes on after the batch.
    `progress` is the part of the log that was read, from 0 to 1; `tenant` is whose events they are.
    """

    def __init__(self, lines: Sequence[bytes], control: _Control) -> None:
        self.lines = lines
        self.cursor = control.cursor
        self.until = control.until
        self.tenant = control.tenant
        self.progress = control.progress
        self.complete = control.complete

    @cached_property
    def events(self) -> list[SessionEvent]:
        """The events.

        Raises UnreadableResponse.
        """
        return [SessionEvent.parse(line) for line in self.lines]

    def __repr__(self) -> str:
        return f"<ExportedBatch of {len(self.lines)} events{', complete' if self.complete else ''}>"


class ExportOptions(TypedDict, total=False):
    """What an export contains; without an option it is not limited. Times are those of the commit.

    `after` is the cursor of a batch. `give_up_seconds` is how long nothing but failures may come.
    """

    types: str | Sequence[str] | None
    families: str | Sequence[str] | None
    session_id: str | None
    flow_id: str | None
    since: datetime | str | None
    until: datetime | str | None
    after: str | None
    without_pii: bool
    give_up_seconds: float


def exporting(
    *,
    types: str | Sequence[str] | None = None,
    families: str | Sequence[str] | None = None,
    session_id: str | None = None,
    flow_id: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    after: str | None = None,
    without_pii: bool = False,
    give_up_seconds: float = GIVE_UP_SECONDS,
    now: Callable[[], float] = time.monotonic,
) -> "Exporting":
    """Return the export of these options, about to begin.

    Raises InvalidArgument.
    """
    filters = given(
        type=_many(types),
        family=_many(families),
        session_id=session_id,
        flow_id=flow_id,
        without_pii="true" if without_pii else None,
    )
    limits = given(since=since, until=until, after=after)
    return Exporting(as_params(filters), as_params(limits), now, give_up=give_up_seconds)


def _many(names: str | Sequence[str] | None) -> str | list[str] | None:
    return names if isinstance(names, str | None) else list(names)


class Exporting:
    """An export across all its connections, without I/O: every event once, none left out.

    A batch is taken when its control line has arrived: what a broken connection has cut off is asked for
    again, from the batch before and up to the same end.
    """

    def __init__(self, filters: Params, limits: Params, now: Callable[[], float], *, give_up: float) -> None:
        self._filters = filters
        self._limits = limits  # where the next request begins and ends
        self._now = now
        self._give_up = give_up
        self._state = State.CONNECT
        self._rest = bytearray()  # of a line that has not ended
        self._lines: list[bytes] = []
        self._bytes = 0
        self._retry_after: float | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._error: AntiphonError = ConnectionFailed("the server ended the export again and again")

    @property
    def ended(self) -> bool:
        """Whether the export is complete."""
        return self._state is State.END

    @property
    def reading(self) -> bool:
        """Whether the connection has more to read."""
        return self._state is State.READ

    def call(self) -> Call[None]:
        """Return the request of the next connection."""
        params: Params = [*self._filters, *self._limits]
        headers = {"Accept": MEDIA_TYPE, "Cache-Control": "no-store"}
        return Call(method="GET", path=PATH, params=params, headers=headers, parse=lambda _: None)

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether it is an export to read.

        Raises UnreadableResponse for another answer that is a success.
        """
        if reply.status != 200:
            return False
        if not reply.headers.get("content-type", "").startswith(MEDIA_TYPE):
            raise UnreadableResponse("the answer is not an export: is base_url session-api's address?")
        self._drop_unfinished()
        self._retry_after = None
        self._state = State.READ
        return True

    def refused(self, reply: Reply) -> None:
        """Take an answer that is no export, read to its end.

        Raises ApiError, unless it says to try again later.
        """
        error = reply.error()
        if not isinstance(error, ServerUnavailable | RateLimited):
            raise error
        self._retry_after = error.retry_after
        self.broke(error)

    def received(self, chunk: bytes) -> list[ExportedBatch]:
        """Return the batches that a chunk completes.

        Raises UnreadableResponse for a batch that is too long, or a control line that cannot be read.
        """
        found: list[ExportedBatch] = []
        first, *others = chunk.split(b"\n")
        self._rest += first
        for part in others:
            line, self._rest = bytes(self._rest), bytearray(part)
            if line.startswith(CONTROL):
                found.append(self._batch(line))
            elif line:
                self._lines.append(line)
                self._bytes += len(line)
        if self._bytes + len(self._rest) > MAX_BATCH_BYTES:
            raise UnreadableResponse(f"the server sent {MAX_BATCH_BYTES} bytes without a cursor")
        return found

    def _batch(self, line: bytes) -> ExportedBatch:
        try:
            control = _control.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableResponse(f"a control line of the export cannot be read: {error}") from error
        batch = ExportedBatch(self._lines, control)
        self._lines, self._bytes = [], 0
        self._limits = as_params({"after": control.cursor, "until": control.until})
        self._failures, self._failing_since = 0, None
        if control.complete:
            self._state = State.END
        return batch

    def closed(self) -> None:
        """Take the server's end of an answer: without the last line of an export it is a failure."""
        if self._state is State.READ:
            self.broke(ConnectionFailed("the server ended the export before it was complete"))

    def broke(self, error: AntiphonError) -> None:
        """Take the failure of a connection.

        Raises it if another attempt would fail in the same way.
        """
        if isinstance(error, InvalidArgument | TlsFailed):
            raise error
        self._drop_unfinished()
        self._error = error
        self._failures += 1
        self._failing_since = self._now() if self._failing_since is None else self._failing_since
        self._state = State.CONNECT

    def _drop_unfinished(self) -> None:
        self._rest.clear()
        self._lines, self._bytes = [], 0

    def pause(self) -> float:
        """Return the seconds to wait before the next connection.

        Raises the last error when nothing but failures came for too long.
        """
        if self._failing_since is not None and self._now() - self._failing_since > self._give_up:
            raise self._error
        wait = backoff(max(self._failures, 1), longest=LONGEST_BACKOFF_SECONDS)
        return wait if self._retry_after is None else max(wait, self._retry_after)


_control = msgspec.json.Decoder(_Control)
