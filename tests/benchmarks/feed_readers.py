"""A process with the subscribers of a tenant's feed, which notes when each event arrived at each of them."""

import asyncio
import re
import sys
import time
from array import array
from pathlib import Path

from .create import KEY

REQUEST = (
    "GET /v1/events?after=now HTTP/1.1\r\nHost: x\r\n"
    f"Accept: text/event-stream\r\nAuthorization: Bearer {KEY}\r\n\r\n"
)
LONGEST = 40  # bytes of a position with its name

_position = re.compile(rb'"position":(\d+)\D')


class Subscriber(asyncio.Protocol):
    """A stream: it looks for the positions of events, and reads nothing else of them."""

    def __init__(self, positions: "array[int]", times: "array[float]") -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.events = 0
        self._positions = positions
        self._times = times
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        transport.write(REQUEST.encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Note the time of each event."""
        at = time.time()
        data = self._rest + data
        if not self.opened.done() and b"\nid: " in data:
            self.opened.set_result(None)
        end = 0
        for found in _position.finditer(data):
            end = found.end()
            self.events += 1
            self._positions.append(int(found[1]))
            self._times.append(at)
        self._rest = data[max(end, len(data) - LONGEST) :]


async def main(port: int, count: int, path: str) -> None:
    """Open streams and read until each has as many events as a line says; print how many all have."""
    positions, times = array("q"), array("d")
    loop = asyncio.get_running_loop()
    subscribers = []
    for _ in range(count):
        _, subscriber = await loop.create_connection(lambda: Subscriber(positions, times), "127.0.0.1", port)
        await subscriber.opened
        subscribers.append(subscriber)
    print("opened", flush=True)
    events = int(await asyncio.to_thread(sys.stdin.readline))
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at and min(one.events for one in subscribers) < events:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    Path(path).write_bytes(positions.tobytes() + times.tobytes())  # noqa: ASYNC240 - the streams are over
    print(min(one.events for one in subscribers), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
