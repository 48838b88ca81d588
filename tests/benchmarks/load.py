"""A cheap load client: HTTP/1.1 keep-alive connections with one request at a time on each."""

import asyncio
import time


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
    deadline = time.perf_counter() + seconds
    began = time.perf_counter()
    counts = await asyncio.gather(*(_repeat(port, request, deadline) for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)


async def _repeat(port: int, request: bytes, deadline: float) -> int:
    connection = await Connection.open(port)
    done = 0
    while time.perf_counter() < deadline:
        status, body = await connection.send(request)
        if status != 201:
            raise RuntimeError(f"{status}: {body.decode()}")
        done += 1
    connection.close()
    return done
