"""A running session-api, as its own tests have it, and a network in front of it that fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from tests.session_api.conftest import (
    Running,
    buckets,
    livekit,
    persistence,
    put_flow,
    put_key,
    running,
    soon_settled,
    start,
)

from antiphon.client import Antiphon, AsyncAntiphon

__all__ = ["buckets", "livekit", "persistence", "put_flow", "put_key", "running", "soon_settled", "start"]


class Network:
    """A TCP proxy; `answers` are the bytes that each next connection may receive before it is cut.

    After the last answer connections are whole. `silent` connections stay open and pass nothing more.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.answers: list[int] = []
        self.connections = 0
        self.silent = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        budget = self.answers.pop(0) if self.answers else None
        with suppress(OSError, asyncio.CancelledError):
            await self._forward(reader, writer, budget)
        writer.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None
    ) -> None:
        try:
            upstream, sending = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            return
        async with asyncio.TaskGroup() as group:
            requests = group.create_task(_pump(reader, sending))
            left = budget
            while data := await upstream.read(65536):
                writer.write(data if left is None else data[:left])
                await writer.drain()
                left = None if left is None else left - len(data)
                if left is not None and left <= 0:
                    break
            requests.cancel()
        sending.transport.abort()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def network(running: Running, soon_settled: None) -> AsyncIterator[Network]:
    """A network between the client and session-api."""
    network = Network(int(running.url.rpartition(":")[2]))
    server = await asyncio.start_server(network.accept, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    yield network
    server.close()
    await network.close()


@pytest.fixture
async def client(network: Network) -> AsyncIterator[AsyncAntiphon]:
    """A client behind the network."""
    async with AsyncAntiphon(network.url, "writer") as client:
        yield client


@pytest.fixture
def blocking(network: Network) -> Callable[[], Antiphon]:
    """A function that makes the client that blocks, for use in a thread."""
    return lambda: Antiphon(network.url, "writer")
