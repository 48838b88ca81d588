"""The baseline of the stream benchmark: a bare server that writes each announcement to all sockets."""

import asyncio
import os

from antiphon.chassis.bus import Bus
from antiphon.chassis.process import run
from antiphon.contracts.subjects import committed_filter

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 1\n\n"


async def serve(stop: asyncio.Event) -> None:
    """Serve until stopped: no parsing, no rendering, no sequence, one write for each socket."""
    sockets: set[asyncio.Transport] = set()

    class Socket(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport: asyncio.Transport = transport  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            self._transport.write(HEAD)
            sockets.add(self._transport)

        def connection_lost(self, exc: Exception | None) -> None:
            sockets.discard(self._transport)

    bus = await Bus.connect(os.environ["ANTIPHON_NATS_URL"], name="fan-out")
    subscription = await bus.subscribe(committed_filter())
    port = int(os.environ["ANTIPHON_API_PORT"])
    server = await asyncio.get_running_loop().create_server(Socket, "127.0.0.1", port)

    async def fan_out() -> None:
        async for _, payload in subscription:
            for each in tuple(sockets):
                each.write(payload)

    fanning = asyncio.create_task(fan_out())
    await stop.wait()
    fanning.cancel()
    server.close()
    await bus.close()


if __name__ == "__main__":
    run(serve)
