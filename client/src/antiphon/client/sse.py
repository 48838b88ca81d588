"""A parser of server-sent events: bytes in, in any chunks; messages out."""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_BYTES = 16 << 20  # of one line, and of the data of one event
MAX_RETRY_DIGITS = 9

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Message(NamedTuple):
    """One event of the stream; `id` is the last id that the stream gave."""

    id: str
    event: str
    data: bytes


class TooLong(ValueError):
    """A line, or the data of an event, is longer than the limit."""


class EventStreamParser:
    """Parser of one connection's stream, as the HTML standard defines it.

    `retry_seconds` is the last reconnection time that the stream gave; `comments` counts its comments, which
    are heartbeats. `last_id` is what a stream resumes after.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.retry_seconds: float | None = None
        self.comments = 0
        self._max_bytes = max_bytes
        self._line: list[bytes] = []  # the parts of a line that has not ended
        self._line_bytes = 0
        self._after_cr = False  # a line feed that follows belongs to the line that has ended
        self._first_line = True
        self.last_id = ""  # of the last block that is complete, with or without an event
        self._id = ""
        self._event = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield the messages that this chunk completes.

        Raises TooLong.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n") if chunk[:1] == b"\n" else chunk
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._extend(chunk[start : end.start()])
            yield from self._end_line()
            start = end.end()
        self._extend(chunk[start:])
        self._after_cr = self._after_cr or chunk.endswith(b"\r")

    def _extend(self, part: bytes) -> None:
        self._line_bytes += len(part)
        if self._line_bytes > self._max_bytes:
            raise TooLong(f"a line of the stream is longer than {self._max_bytes} bytes")
        if part:
            self._line.append(part)

    def _end_line(self) -> Iterator[Message]:
        line = b"".join(self._line)
        self._line.clear()
        self._line_bytes = 0
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if line:
            self._field(line)
        elif self._data:
            yield Message(self._id, self._event or "message", b"\n".join(self._data))
        if not line:
            self.last_id = self._id
            self._event = ""
            self._data.clear()
            self._data_bytes = 0

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                self.comments += 1
            case b"data":
                self._data_bytes += len(value) + 1
                if self._data_bytes > self._max_bytes + 1:
                    raise TooLong(f"an event of the stream is longer than {self._max_bytes} bytes")
                self._data.append(value)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"retry" if value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
                self.retry_seconds = int(value) / 1000
