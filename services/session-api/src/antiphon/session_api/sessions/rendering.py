"""Committed events as server-sent events, rendered once for all streams that send them."""

from collections.abc import Sequence

from msgspec import Struct

from antiphon.chassis.log import sequence_of
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.session_api.sessions.log_end import ROOM_FINISHED

RENDERED_BYTES = 4 << 20


class Rendered(Struct, frozen=True):
    """Events as the bytes of a stream; whether the session's end, or that of its room, is among them."""

    chunk: bytes
    ended: bool
    finished: bool


def as_event(envelope: Envelope, last_id: object) -> bytes:
    """Return a committed envelope as a server-sent event with this id."""
    # In JSON, line breaks occur only between tokens, never inside a string.
    data = encode(envelope).replace(b"\r", b" ").replace(b"\n", b" ")
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(last_id).encode(), envelope.type.encode(), data)


def render(envelopes: Sequence[Envelope]) -> Rendered:
    """Return events as bytes."""
    types = {envelope.type for envelope in envelopes}
    return Rendered(
        b"".join([as_event(envelope, sequence_of(envelope)) for envelope in envelopes]),
        ended=not TERMINAL_TYPES.isdisjoint(types),
        finished=ROOM_FINISHED in types,
    )


class Renderer:
    """Renders what was announced once, for all streams of a session; keeps the newest, bounded in bytes."""

    def __init__(self, max_bytes: int = RENDERED_BYTES) -> None:
        self.bytes = 0  # of the chunks; the envelopes that are kept with them have about the same size
        self._max_bytes = max_bytes
        self._rendered: dict[int, tuple[Sequence[Envelope], Rendered]] = {}

    def __call__(self, envelopes: Sequence[Envelope]) -> Rendered:
        """Return events as bytes; the same tuple is the same announcement, a list belongs to one stream."""
        if not isinstance(envelopes, tuple):
            return render(envelopes)
        known = self._rendered.get(id(envelopes))
        if known is None:  # an id is not used again while its tuple is kept
            known = self._rendered[id(envelopes)] = (envelopes, render(envelopes))
            self.bytes += len(known[1].chunk)
            while self.bytes > self._max_bytes:
                oldest = next(iter(self._rendered))
                self.bytes -= len(self._rendered.pop(oldest)[1].chunk)
        return known[1]
