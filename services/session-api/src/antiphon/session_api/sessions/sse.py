"""Server-sent events: a session's history, then its live events, until it has ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from antiphon.chassis.log import sequence_of
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.session import TERMINAL_TYPES

MEDIA_TYPE = "text/event-stream"
QUEUE_SIZE = 256  # events read ahead of a slow client; then reading waits
CANCEL_TIMEOUT_SECONDS = 2.0
OPENING = b"retry: 1000\n\n"
HEARTBEAT = b": keep-alive\n\n"

Chunks = AsyncGenerator[bytes, None]
Queue = asyncio.Queue[Envelope | None]  # None wakes the sender

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


async def live(
    events: AsyncGenerator[Envelope, None], *, heartbeat_seconds: float, stopping: asyncio.Event
) -> Chunks:
    """Yield events as they arrive, and a heartbeat after every `heartbeat_seconds` without one.

    Ends after the terminal event of the session, or when the server stops.
    """
    queue = Queue(QUEUE_SIZE)
    reading = asyncio.create_task(_read(events, queue), name="stream: read")
    stopped = asyncio.create_task(stopping.wait(), name="stream: stop")
    for task in (reading, stopped):
        task.add_done_callback(lambda _: _wake(queue))
    try:
        yield OPENING
        while not stopped.done() and not (reading.done() and queue.empty()):
            try:
                async with asyncio.timeout(heartbeat_seconds):
                    waiting = [await queue.get()]
            except TimeoutError:
                yield HEARTBEAT
                continue
            while not queue.empty():
                waiting.append(queue.get_nowait())
            if chunk := b"".join(as_event(envelope) for envelope in waiting if envelope is not None):
                yield chunk
        _log_failure(reading)
    finally:
        stopped.cancel()
        reading.cancel()
        await asyncio.wait((reading, stopped), timeout=CANCEL_TIMEOUT_SECONDS)


async def _read(events: AsyncGenerator[Envelope, None], queue: Queue) -> None:
    async with aclosing(events):
        async for envelope in events:
            await queue.put(envelope)
            if envelope.type in TERMINAL_TYPES:
                return


def _wake(queue: Queue) -> None:
    with suppress(asyncio.QueueFull):  # a full queue wakes the sender as well
        queue.put_nowait(None)


def _log_failure(reading: asyncio.Task[None]) -> None:
    if reading.done() and not reading.cancelled() and (error := reading.exception()) is not None:
        log.error("stream.failed", exc_info=error)
