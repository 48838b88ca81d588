"""Server-sent events: a session's history, then its live events, until it has ended and no more follow."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antiphon.chassis.background import end_task
from antiphon.chassis.log import SessionFollower
from antiphon.session_api.sessions.log_end import LATE_SECONDS, LogEnd
from antiphon.session_api.sessions.rendering import Rendered, Renderer

MEDIA_TYPE = "text/event-stream"
QUIET_SECONDS = 0.5  # without an event, once session and room have ended: then the stream ends
OPENING = b"retry: 1000\n\n"
HEARTBEAT = b": keep-alive\n\n"
MAX_RANGES = 100  # of a header Accept; further ones are ignored
PAGE_RANGES = ("application/json", "application/*", "*/*")

Chunks = AsyncGenerator[bytes, None]

_render = Renderer()
_quality_value = re.compile(r"[01](\.[0-9]{0,3})?")


def accepts_stream(accept: str) -> bool:
    """Return whether a header Accept (RFC 9110) names event streams, and does not prefer JSON to them.

    Only the name counts, `*/*` does not; between equals, the stream wins.
    """
    ranges: dict[str, float] = {}
    for part in accept.split(",", MAX_RANGES)[:MAX_RANGES]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranges[name] = max(_quality(parameters), ranges.get(name, 0.0))
    wanted = ranges.get(MEDIA_TYPE, 0.0)
    return wanted > 0 and wanted >= next((ranges[name] for name in PAGE_RANGES if name in ranges), 0.0)


def _quality(parameters: list[str]) -> float:
    given = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    return float(given) if _quality_value.fullmatch(given) else 0.0


class EventStream(Response):
    """A response that is written as its chunks come, and ends at once when its client is gone."""

    media_type = MEDIA_TYPE

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then close the generator."""
        # Not StreamingResponse: it needs two tasks more for each stream.
        gone = asyncio.create_task(_disconnected(receive), name="stream: client")
        there = asyncio.timeout(None)

        def leave(_: "asyncio.Task[None]") -> None:
            there.reschedule(asyncio.get_running_loop().time())

        try:
            async with aclosing(self._chunks), there:
                gone.add_done_callback(leave)
                try:
                    await self._send(scope, send)
                finally:
                    gone.remove_done_callback(leave)
        except TimeoutError:
            if not there.expired():
                raise
        finally:
            await end_task(gone)

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async for chunk in self._chunks:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Ending:
    """The end of a stream: the session has ended, and so has its room, or LATE_SECONDS have passed."""

    def __init__(self, end: LogEnd, now: float) -> None:
        self.at = self._latest = float("inf")  # on the clock of the loop
        self._ended = False
        self._finished = end.finished
        self._note(end.ended, end.finished, now, end.late_seconds)

    def note(self, rendered: Rendered, now: float) -> None:
        """Note what the stream sends."""
        self._note(rendered.ended, rendered.finished, now, LATE_SECONDS)

    def _note(self, ended: bool, finished: bool, now: float, late_seconds: float) -> None:
        self._finished |= finished
        if ended and not self._ended:
            self._ended = True
            self._latest = self.at = now + late_seconds
        if self._ended and self._finished:
            # Agent and LiveKit report independently: the agent's last events may come after LiveKit's.
            self.at = min(self._latest, now + QUIET_SECONDS)


class StreamEnd(Protocol):
    """What ends a stream before its session does."""

    @property
    def stopping(self) -> bool:
        """Whether the stream is to end."""

    def add(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it is to end."""

    def remove(self, wake: Callable[[], None]) -> None:
        """Do not call it any more."""


async def live(
    follower: SessionFollower, end: LogEnd, *, heartbeat_seconds: float, stream: StreamEnd
) -> Chunks:
    """Yield events as they are committed, and a heartbeat after every `heartbeat_seconds` without one.

    A chunk may be empty, so that its sender can end the stream at any time. Ends with the session
    and its late events, or when `stream` says so. Closes the follower.
    """
    now = asyncio.get_running_loop().time
    ending = Ending(end, now())
    wake = follower.wake
    stream.add(wake)
    try:
        yield OPENING
        heartbeat_at = now() + heartbeat_seconds
        while not stream.stopping and (now() < ending.at or follower.behind):
            envelopes = await follower.next(max(0.0, min(heartbeat_at, ending.at) - now()))
            if envelopes:
                rendered = _render(envelopes)
                ending.note(rendered, now())
                yield rendered.chunk
                heartbeat_at = now() + heartbeat_seconds
            elif now() >= heartbeat_at:
                yield HEARTBEAT
                heartbeat_at = now() + heartbeat_seconds
            else:
                yield b""
    finally:
        stream.remove(wake)
        await follower.close()
