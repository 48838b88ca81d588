"""The limits of a connection, over real sockets."""

import asyncio
import json
import resource
from typing import Any

import psutil
import pytest

from antiphon.chassis.http.limits import ServerLimits

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1024 * 1024


def problem_of(response: bytes) -> dict[str, Any]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    document: dict[str, Any] = json.loads(body)
    assert document["request_id"].encode() in head
    return document


async def flood(writer: asyncio.StreamWriter, chunk: bytes, times: int) -> int:
    """Send a chunk again and again until the server ends the connection; return the bytes sent."""
    sent = 0
    for _ in range(times):
        if writer.is_closing():
            break
        writer.write(chunk)
        try:
            async with asyncio.timeout(1):
                await writer.drain()
        except (OSError, TimeoutError):
            break
        sent += len(chunk)
        await asyncio.sleep(0)
    writer.transport.abort()
    return sent


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /echo HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 1000) for n in range(100)),
        b"GET /echo HTTP/1.1\r\nX-One: " + b"v" * 100_000,
        b"GET /" + b"p" * 100_000,
        b"GET /echo HTTP/1.1\r\n" + b"".join(b"X-%d: v\r\n" % n for n in range(200)),
    ],
    ids=["many large fields", "one field that does not end", "a long target", "many fields"],
)
async def test_large_headers_respond_431(serve: Any, head: bytes) -> None:
    served = await serve()

    problem = problem_of(await served.exchange(head))

    assert (problem["status"], problem["type"].rpartition("/")[2]) == (431, "headers-too-large")


async def test_headers_below_the_limit_are_accepted(serve: Any) -> None:
    served = await serve()

    response = await served.exchange(GET[:-2] + b"X-One: " + b"v" * 60_000 + b"\r\nConnection: close\r\n\r\n")

    assert response.startswith(b"HTTP/1.1 200")


async def test_endless_headers_take_no_memory(serve: Any) -> None:
    served = await serve()
    before = psutil.Process().memory_info().rss
    connections = [await served.connect() for _ in range(8)]

    sent = 0
    for _, writer in connections:
        writer.write(b"GET /echo HTTP/1.1\r\nX-One: ")
    sent = sum(await asyncio.gather(*(flood(writer, b"v" * MIB, 100) for _, writer in connections)))

    assert sent < 80 * MIB
    assert psutil.Process().memory_info().rss - before < 60 * MIB


async def test_endless_trailers_and_chunk_extensions_end_the_connection(serve: Any) -> None:
    served = await serve()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for start in (b"1\r\nx\r\n0\r\nX-Trailer: ", b"1;extension="):
        _, writer = await served.connect()
        writer.write(head + start)

        assert await flood(writer, b"v" * MIB, 100) < 90 * MIB
    assert served.bodies == []


@pytest.mark.parametrize(
    ("request_bytes", "part"),
    [
        (b"GET /echo HT", "headers"),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\n", "headers"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", "body"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "body"),
    ],
)
async def test_a_half_sent_request_responds_408(serve: Any, request_bytes: bytes, part: str) -> None:
    served = await serve(ServerLimits(head_seconds=0.3, body_seconds=0.3))

    problem = problem_of(await served.exchange(request_bytes))

    assert problem["status"] == 408
    assert part in problem["detail"]


async def test_bytes_that_trickle_in_do_not_extend_the_time(serve: Any) -> None:
    served = await serve(ServerLimits(head_seconds=0.5))
    reader, writer = await served.connect()
    writer.write(b"GET /echo HTTP/1.1\r\n")

    async def trickle() -> None:
        while True:
            writer.write(b"X-A: 1\r\n")
            await asyncio.sleep(0.1)

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(60):
        response = await reader.readuntil(b"\r\n")
    trickling.cancel()

    assert b" 408 " in response


async def test_a_silent_connection_is_closed(serve: Any) -> None:
    served = await serve(ServerLimits(head_seconds=0.3))

    assert await served.exchange(b"") == b""


async def test_an_idle_connection_is_closed(serve: Any) -> None:
    served = await serve(ServerLimits(keep_alive_seconds=0.3))

    assert (await served.exchange(GET)).endswith(b"/echo 0")


async def test_a_body_after_an_early_response_is_bounded(serve: Any) -> None:
    served = await serve()
    _, writer = await served.connect()
    writer.write(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")

    assert await flood(writer, b"v" * MIB, 200) < 100 * MIB


async def test_an_early_response_keeps_the_connection_for_the_next_request(serve: Any) -> None:
    served = await serve(ServerLimits(keep_alive_seconds=0.3))

    response = await served.exchange(
        b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody" + GET
    )

    assert response.count(b"HTTP/1.1 ") == 2


async def test_pipelined_requests_are_bounded(serve: Any) -> None:
    served = await serve(ServerLimits(pipelined=4))

    response = await served.exchange(GET * 10_000)

    assert response.count(b"HTTP/1.1 200") == 5
    assert response.endswith(b"/echo 0")
    assert len(served.bodies) == 5


async def test_an_invalid_request_behind_a_valid_one_does_not_break_its_response(serve: Any) -> None:
    served = await serve()

    response = await served.exchange(GET + b"\0 nonsense\r\n\r\n")

    assert response.count(b"HTTP/1.1 ") == 1
    assert response.endswith(b"/echo 0")


@pytest.mark.parametrize("request_bytes", [b"nonsense\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"])
async def test_an_invalid_request_responds_400(serve: Any, request_bytes: bytes) -> None:
    served = await serve()

    assert problem_of(await served.exchange(request_bytes))["status"] == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"", 400),
        (b"Host: x\r\nHost: y\r\n", 400),
        (b"Host: x\r\nhost: x\r\n", 400),
        (b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
        (b"Host: x\r\nTransfer-Encoding: identity\r\n", 400),
        (b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    ],
)
async def test_a_request_with_ambiguous_fields_is_refused(serve: Any, fields: bytes, status: int) -> None:
    served = await serve()

    response = await served.exchange(b"POST /echo HTTP/1.1\r\n" + fields + b"\r\n0\r\n\r\n")

    assert problem_of(response)["status"] == status
    assert served.bodies == []


async def test_a_request_of_http_1_0_needs_no_host(serve: Any) -> None:
    served = await serve()

    assert (await served.exchange(b"GET /echo HTTP/1.0\r\n\r\n")).endswith(b"/echo 0")


async def test_an_upgrade_is_answered_over_http_1(serve: Any) -> None:
    served = await serve(ServerLimits(keep_alive_seconds=0.3))

    response = await served.exchange(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")

    assert response.startswith(b"HTTP/1.1 200")


async def test_a_client_that_takes_nothing_is_disconnected(serve: Any) -> None:
    served = await serve(ServerLimits(stalled_seconds=0.5, keep_alive_seconds=120))
    _, writer = await served.connect()
    writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.transport.pause_reading()
    connections = psutil.Process()

    def established() -> int:
        own = connections.net_connections("tcp")
        return sum(c.laddr.port == served.port and c.status == "ESTABLISHED" for c in own)

    await eventually(lambda: established() == 0)
    writer.transport.abort()


async def test_a_stream_that_is_read_stays_open(serve: Any) -> None:
    limits = ServerLimits(head_seconds=0.2, body_seconds=0.2, keep_alive_seconds=0.2, stalled_seconds=0.2)
    served = await serve(limits)
    reader, writer = await served.connect()
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")

    async with asyncio.timeout(60):
        for _ in range(15):
            await reader.readuntil(b": keep-alive\n\n")

    assert served.streams == 1
    writer.close()
    await eventually(lambda: served.streams == 0)


async def test_a_stream_ends_with_its_connection_also_with_a_request_behind_it(serve: Any) -> None:
    served = await serve()
    reader, writer = await served.connect()
    writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    await reader.readuntil(b": keep-alive\n\n")

    writer.close()

    await eventually(lambda: served.streams == 0)


async def test_half_open_connections_take_little_memory(serve: Any) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1024
    served = await serve()
    before = psutil.Process().memory_info().rss

    connections = [await served.connect() for _ in range(100)]
    for _, writer in connections:
        writer.write(b"GET /echo HTTP/1.1\r\nX-One: " + b"v" * 60_000)
    await asyncio.sleep(0.5)

    assert psutil.Process().memory_info().rss - before < 60 * MIB
    for _, writer in connections:
        writer.transport.abort()
