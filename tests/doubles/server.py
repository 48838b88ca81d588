"""A server on loopback that follows the protocols of one or more providers.

`async with serve(OpenAIChat(), DeepgramNova()) as url` gives `http://127.0.0.1:PORT`. OpenAI's base URL is
`{url}/v1`, Deepgram's are `{url}/v1/listen`, `{url}/v2/listen` and `{url}/v1/speak`.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from tests.doubles.faults import PAGE, CutOff, Fault, FaultPlan, Pieces, Status, makes_page, nonsense, reset

KEY = "key-of-the-double"


@dataclass(slots=True)
class Received:
    """A request as it came: `body` of HTTP; `messages` and `audio_bytes` of a WebSocket."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    audio_bytes: int = 0
    fault: Fault | None = None


class Refused(Exception):
    """The request is not what the provider accepts. `message` names the field as the provider does."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


class Double:
    """One API of a provider: what it received, and the faults that it has yet to make."""

    def __init__(self, *, key: str = KEY) -> None:
        self.key = key
        self.faults = FaultPlan()
        self.received: list[Received] = []
        self._newest: web.Request | None = None
        self.refusals: list[str] = []  # why requests were refused; a test with no fault expects none

    @property
    def last(self) -> Received:
        """The newest request."""
        return self.received[-1]

    async def drop(self) -> None:
        """Reset the connection of the newest request."""
        if self._newest is not None:
            await reset(self._newest)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return ()

    def error(self, refused: Refused) -> web.Response:
        """Return an error in the provider's format."""
        return web.json_response({"message": refused.message}, status=refused.status)

    def authorize(self, request: web.Request) -> None:
        """Raise Refused for a request without the right key."""

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Validate the request and answer it; raise Refused for what the provider does not accept."""
        raise Refused(404, f"no such path: {request.path}")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a request, then answer it, or make its fault."""
        query = {name: request.query.getall(name) for name in request.query}
        fault = self.faults.take()
        self.received.append(
            Received(request.path, query, {k.lower(): v for k, v in request.headers.items()}, fault=fault)
        )
        self._newest = request
        pieces = Pieces(request, fault)
        try:
            self.authorize(request)
            if isinstance(fault, Status):
                return self._failure(fault)
            if makes_page(fault):
                return web.Response(text=PAGE, content_type="text/html")
            return await self.answer(request, pieces)
        except Refused as refused:
            self.refusals.append(refused.message)
            return self.error(refused)
        except CutOff:
            return web.Response()  # aiohttp drops it: the connection is gone

    def _failure(self, fault: Status) -> web.Response:
        response = self.error(Refused(fault.code, f"the double makes status {fault.code}"))
        if fault.retry_after is not None:
            response.headers["Retry-After"] = f"{fault.retry_after:g}"
        return response


async def json_body(request: web.Request) -> dict[str, Any]:
    """Return a JSON object, as the provider requires it."""
    if request.content_type != "application/json":
        raise Refused(415, f"Content-Type must be application/json, not {request.content_type}")
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise Refused(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    return body


class Socket:
    """A WebSocket of a double: counts what it sends, and records what it receives."""

    def __init__(self, pieces: Pieces, received: Received) -> None:
        self._pieces = pieces
        self._received = received
        self._ws = web.WebSocketResponse(autoclose=True)

    async def open(
        self, request: web.Request, headers: dict[str, str] | None = None
    ) -> web.WebSocketResponse:
        """Accept the connection. A fault with `after=0` is made before."""
        await self._pieces.before()
        self._ws.headers.update(headers or {})
        await self._ws.prepare(request)
        return self._ws

    async def send(self, message: dict[str, Any] | bytes) -> None:
        """Send one message; a fault that sends nonsense sends it in its place."""
        await self._pieces.before()
        if (text := nonsense(self._pieces.fault)) is not None:
            await self._ws.send_str(text)
        elif isinstance(message, bytes):
            await self._ws.send_bytes(message)
        else:
            await self._ws.send_json(message)

    async def messages(self) -> AsyncIterator[dict[str, Any] | bytes]:
        """Yield JSON objects and blocks of bytes until the other side closes."""
        async for message in self._ws:
            if message.type == WSMsgType.BINARY:
                self._received.audio_bytes += len(message.data)
                yield message.data
            elif message.type == WSMsgType.TEXT:
                try:
                    value = json.loads(message.data)
                except ValueError:
                    await self._ws.close(code=1008, message=b"not JSON")
                    return
                self._received.messages.append(value)
                yield value

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it as the provider does."""
        await self._ws.close(code=code, message=reason.encode())


@asynccontextmanager
async def serve(*doubles: Double) -> AsyncIterator[str]:
    """Serve the doubles on one port; yield `http://127.0.0.1:PORT`."""
    app = web.Application(client_max_size=32 * 1024 * 1024)
    for double in doubles:
        app.router.add_routes(double.routes())
    # handlers that hang are cancelled when the caller leaves, and when the server stops
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
