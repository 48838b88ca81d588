"""Connections to MCP servers: to a process on its standard streams, or by streamable HTTP."""

from collections import ChainMap, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from antiphon.agent_worker.flow.definitions import McpServer
from antiphon.agent_worker.flow.template import render
from antiphon.agent_worker.flow.url import UrlTemplate
from antiphon.agent_worker.tools.address import Resolve
from antiphon.agent_worker.tools.http_client import open_client
from antiphon.agent_worker.tools.mcp_process import MAX_MESSAGE_BYTES, MessageTooLarge, process_streams
from antiphon.agent_worker.tools.secrets import Secrets

SILENCE_SECONDS = 300.0  # an open stream of events may be silent for as long as the longest tool
ERROR_CHARACTERS = 500  # of what a process wrote last to its standard error

Streams = tuple[Any, Any]
OpenStreams = Callable[[], AbstractAsyncContextManager[Streams]]


def streams_of(
    server: McpServer, secrets: Secrets, variables: Mapping[str, Any], resolve: Resolve, said: deque[str]
) -> OpenStreams:
    """Return a function that opens a connection. `said` gets what a process writes to its standard error."""
    values = ChainMap(dict(secrets), variables)  # type: ignore[arg-type]
    if server.command is not None:
        command = [render(part, values) for part in server.command]
        environment = {name: render(text, values) for name, text in server.env.items()}
        return lambda: process_streams(command, environment, said)
    assert server.url is not None
    url = UrlTemplate(server.url).render(values)
    headers = {name: render(text, values) for name, text in server.headers.items()}
    return lambda: _http(url, headers, resolve, private=server.private)


@asynccontextmanager
async def _http(
    url: str, headers: dict[str, str], resolve: Resolve, *, private: bool
) -> AsyncIterator[Streams]:
    client = await open_client(
        private=private, resolve=resolve, headers=headers, read_seconds=SILENCE_SECONDS
    )
    client.headers["accept-encoding"] = "identity"
    client.event_hooks = {"response": [_limit]}
    async with client, streamable_http_client(url, http_client=client) as streams:
        yield streams


async def _limit(response: httpx2.Response) -> None:
    """Limit the size of a response; events in a stream have a limit of their own in the SDK."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return
    response.stream = _Limited(response.stream)  # type: ignore[arg-type]


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._inner:
            size += len(part)
            if size > MAX_MESSAGE_BYTES:
                raise MessageTooLarge
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class Watched:
    """The stream of what a server sends; `on_end` is called with the reason when it ends."""

    def __init__(self, stream: Any, on_end: Callable[[Exception], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> "Watched":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._stream.__aexit__(*error)

    def __aiter__(self) -> "Watched":
        return self

    async def __anext__(self) -> Any:
        return await self._until_end(self._stream.__anext__)

    async def receive(self) -> Any:
        """Return the next message."""
        return await self._until_end(self._stream.receive)

    async def _until_end(self, read: Callable[[], Awaitable[Any]]) -> Any:
        try:
            message = await read()
        except Exception as error:
            self._on_end(error)
            raise
        if isinstance(message, MessageTooLarge):
            self._on_end(message)
        return message
