"""A server on loopback with an app of a few routes, and raw connections to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from antiphon.chassis.http.limits import ServerLimits
from antiphon.chassis.http.server import serve_http
from antiphon.cli.stack.ports import free_port

BIG = 16 * 1024 * 1024


@dataclass
class Served:
    """A running server, and what its app saw."""

    port: int
    streams: int = 0
    bodies: list[int] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """Send bytes; return everything that comes until the server closes."""
        reader, writer = await self.connect()
        writer.write(request)
        async with asyncio.timeout(60):
            try:
                return await reader.read()
            finally:
                writer.close()


Serve = Callable[..., Awaitable[Served]]


def _app(served: Served) -> Starlette:
    async def echo(request: Request) -> Response:
        body = await request.body()
        served.bodies.append(len(body))
        await served.hold.wait()
        return PlainTextResponse(f"{request.url.path} {len(body)}")

    async def early(_: Request) -> Response:
        return PlainTextResponse("no body is read", 401)

    async def big(_: Request) -> Response:
        return Response(b"x" * BIG)

    async def ticks() -> AsyncIterator[bytes]:
        served.streams += 1
        try:
            while True:
                yield b": keep-alive\n\n"
                await asyncio.sleep(0.1)
        finally:
            served.streams -= 1

    async def stream(_: Request) -> Response:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    async def live(_: Request) -> Response:
        return PlainTextResponse("live")

    return Starlette(
        routes=[
            Route("/echo", echo, methods=["GET", "POST"]),
            Route("/early", early, methods=["POST"]),
            Route("/big", big),
            Route("/stream", stream),
            Route("/health/live", live),
        ]
    )


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A function that starts a server with the given limits."""
    all_served: list[Served] = []
    servers: list[asyncio.Task[None]] = []

    async def starting(limits: ServerLimits | None = None) -> Served:
        served = Served(free_port())
        served.hold.set()
        all_served.append(served)
        serving = serve_http(
            _app(served), "127.0.0.1", served.port, served.stop, limits=limits, draining=served.draining
        )
        servers.append(asyncio.create_task(serving))
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await served.connect()
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    return served

    yield starting
    for served in all_served:
        served.stop.set()
    await asyncio.wait_for(asyncio.gather(*servers), 30)
