"""A server that is about to stop: it answers everyone, and lets no connection stay."""

import asyncio
from typing import Any

import pytest
from tests.chassis.http.test_protocol import GET

from antiphon.chassis.health import Health, not_stopping

POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


async def response(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next response; its body is read."""
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
    return head.lower()


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(60):
        return await reader.read() == b""


async def test_a_response_closes_its_connection_once_the_server_drains(serve: Any) -> None:
    served = await serve()
    reader, writer = await served.connect()
    writer.write(GET)
    assert b"connection: close" not in await response(reader)

    served.draining.set()
    await asyncio.sleep(0)
    writer.write(GET)

    assert b"connection: close" in await response(reader)
    assert await ended(reader)
    writer.close()
    # whoever has not noticed yet is served
    assert (await served.exchange(GET)).endswith(b"/echo 0")


async def test_a_request_under_way_is_answered_and_closes_its_connection(serve: Any) -> None:
    served = await serve()
    served.hold.clear()
    reader, writer = await served.connect()
    writer.write(POST + b"hi")
    async with asyncio.timeout(60):
        while not served.bodies:  # noqa: ASYNC110 - the app has no event
            await asyncio.sleep(0.01)

    served.draining.set()
    served.stop.set()
    await asyncio.sleep(0)
    served.hold.set()

    assert b"connection: close" in await response(reader)
    assert await ended(reader)
    writer.close()


async def test_a_stopped_server_refuses_connections(serve: Any) -> None:
    served = await serve()
    served.stop.set()

    async with asyncio.timeout(60):
        with pytest.raises(OSError):  # noqa: PT011, PT012 - refused, or reset in the backlog
            while True:
                await served.exchange(GET)
                await asyncio.sleep(0.01)


async def test_a_stopping_server_is_unready_and_says_why() -> None:
    stop = asyncio.Event()
    health = Health({"stopping": not_stopping(stop)})
    assert (await health.report())["status"] == "ready"

    stop.set()

    report: Any = await health.report()
    assert report["status"] == "unready"
    assert report["checks"]["stopping"]["detail"] == "is stopping"
