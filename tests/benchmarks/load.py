"""A cheap load client: HTTP/1.1 keep-alive connections with one request at a time on each."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Connection:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send one request and return the status and the body of the response."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)  # a 304 has none
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def post(path: str, body: bytes, key: str) -> bytes:
    """Return the bytes of a POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def throughput(port: int, request: bytes, *, connections: int, seconds: float) -> float:
    """Return requests per second over a number of connections."""
    load, began = Load(port, request), time.perf_counter()
    async with load.running(connections):
        await asyncio.sleep(seconds)
    return load.done / (time.perf_counter() - began)


class Load:
    """Creates, one after another on each of some connections; `done` counts them."""

    def __init__(self, port: int, request: bytes) -> None:
        self.done = 0
        self._port = port
        self._request = request
        self._ending = False

    @asynccontextmanager
    async def running(self, connections: int) -> AsyncIterator[None]:
        """Send until the block ends, and then wait for the last responses; raise when one is no 201."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._repeat())
            yield
            self._ending = True

    async def _repeat(self) -> None:
        connection = await Connection.open(self._port)
        while not self._ending:
            status, body = await connection.send(self._request)
            if status != 201:
                raise RuntimeError(f"{status}: {body.decode()}")
            self.done += 1
        connection.close()
