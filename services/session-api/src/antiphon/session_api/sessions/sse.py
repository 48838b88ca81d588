"""Server-sent events: a session's history, then its live events, until it has ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from antiphon.chassis.log import sequence_of
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.session import TERMINAL_TYPES

MEDIA_TYPE = "text/event-stream"
QUEUE_SIZE = 256  # events read ahead of a slow client; then reading waits
QUEUE_BYTES = 1 << 20  # of their bodies, all but the newest
CANCEL_TIMEOUT_SECONDS = 2.0
OPENING = b"retry: 1000\n\n"
HEARTBEAT = b": keep-alive\n\n"

Chunks = AsyncGenerator[bytes, None]

log = structlog.get_logger(__name__)


class EventStream(StreamingResponse):
    """A streaming response that closes its generator when the connection ends."""

    media_type = MEDIA_TYPE

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(chunks, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        """Send the response, then close the generator."""
        async with aclosing(self._chunks):
            await super().stream_response(send)


def as_event(envelope: Envelope) -> bytes:
    """Return a committed envelope as a server-sent event, whose id is the sequence."""
    # In JSON, line breaks occur only between tokens, never inside a string.
    data = encode(envelope).replace(b"\r", b" ").replace(b"\n", b" ")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (sequence_of(envelope), envelope.type.encode(), data)


async def replay(events: list[Envelope]) -> Chunks:
    """Yield the events that were committed after the session's end."""
    yield OPENING + b"".join(map(as_event, events))


class ReadAhead:
    """Events that are read and not sent yet, bounded in number and in bytes."""

    def __init__(self, max_bytes: int = QUEUE_BYTES) -> None:
        self._events: list[Envelope] = []
        self._bytes = 0
        self._max_bytes = max_bytes
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether everything was taken."""
        return not self._events

    async def put(self, envelope: Envelope) -> None:
        """Add an event, as soon as there is room for it."""
        while len(self._events) >= QUEUE_SIZE or self._bytes > self._max_bytes:
            self._taken.clear()
            await self._taken.wait()
        self._events.append(envelope)
        self._bytes += len(envelope.data)
        self._arrived.set()

    async def take(self) -> list[Envelope]:
        """Wait for events, or for `wake`, and take all."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._events, self._bytes = self._events, [], 0
        self._taken.set()
        return taken

    def wake(self) -> None:
        """End the wait of `take`."""
        self._arrived.set()


async def live(
    events: AsyncGenerator[Envelope, None], *, heartbeat_seconds: float, stopping: asyncio.Event
) -> Chunks:
    """Yield events as they arrive, and a heartbeat after every `heartbeat_seconds` without one.

    Ends after the terminal event of the session, or when the server stops.
    """
    ahead = ReadAhead()
    reading = asyncio.create_task(_read(events, ahead), name="stream: read")
    stopped = asyncio.create_task(stopping.wait(), name="stream: stop")
    for task in (reading, stopped):
        task.add_done_callback(lambda _: ahead.wake())
    try:
        yield OPENING
        while not stopped.done() and not (reading.done() and ahead.empty):
            try:
                async with asyncio.timeout(heartbeat_seconds):
                    waiting = await ahead.take()
            except TimeoutError:
                yield HEARTBEAT
                continue
            if chunk := b"".join(map(as_event, waiting)):
                yield chunk
        _log_failure(reading)
    finally:
        stopped.cancel()
        reading.cancel()
        await asyncio.wait((reading, stopped), timeout=CANCEL_TIMEOUT_SECONDS)


async def _read(events: AsyncGenerator[Envelope, None], ahead: ReadAhead) -> None:
    async with aclosing(events):
        async for envelope in events:
            await ahead.put(envelope)
            if envelope.type in TERMINAL_TYPES:
                return


def _log_failure(reading: asyncio.Task[None]) -> None:
    if reading.done() and not reading.cancelled() and (error := reading.exception()) is not None:
        log.error("stream.failed", exc_info=error)
