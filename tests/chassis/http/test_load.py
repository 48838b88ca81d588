"""A full server, over real sockets: who waits makes room, and health checks are answered."""

import asyncio
from contextlib import suppress
from typing import Any

from tests.chassis.http.test_protocol import GET, MIB, eventually, problem_of

from antiphon.chassis.http.limits import ServerLimits

HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n"


class Silent:
    """Connections that send the same bytes and wait; each is opened again as soon as it ends."""

    def __init__(self, served: Any, count: int, sent: bytes = b"") -> None:
        self._served = served
        self._sent = sent
        self.opened = 0
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Silent":
        self._tasks = [asyncio.create_task(self._one()) for _ in range(self._count)]
        await eventually(lambda: self.opened >= self._count)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await self._served.connect()
                self.opened += 1
                try:
                    writer.write(self._sent)
                    while await reader.read(1024):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.02)


MOST = 30  # of 40: a slow machine may take one that asks for one that waits


async def answered(served: Any, request: bytes, ending: bytes) -> int:
    """Send a request 40 times; return how many got this response."""
    count = 0
    for _ in range(40):
        with suppress(OSError):
            response = await served.exchange(request)
            count += response.startswith(b"HTTP/1.1 200") and response.endswith(ending)
        await asyncio.sleep(0.01)
    return count


async def test_silent_connections_do_not_keep_others_out(serve: Any) -> None:
    served = await serve(ServerLimits(connections=60, reserved=8))

    async with Silent(served, 80):
        assert await answered(served, HEALTH, b"live") >= MOST
        assert await answered(served, POST % 0 + b"\r\n", b"/echo 0") >= MOST


async def test_half_heads_do_not_keep_others_out(serve: Any) -> None:
    served = await serve(ServerLimits(connections=60, reserved=8))

    async with Silent(served, 80, b"GET /echo HTTP/1.1\r\nX-Slow: "):
        assert await answered(served, HEALTH, b"live") >= MOST


async def test_idle_connections_make_room(serve: Any) -> None:
    served = await serve(ServerLimits(connections=60, reserved=8, keep_alive_seconds=60))

    async with Silent(served, 80, GET):
        assert await answered(served, HEALTH, b"live") >= MOST


async def test_bodies_that_are_owed_after_the_response_make_room(serve: Any) -> None:
    served = await serve(ServerLimits(connections=60, reserved=8))

    async with Silent(served, 80, POST.replace(b"/echo", b"/early") % 1000 + b"\r\nx"):
        assert await answered(served, HEALTH, b"live") >= MOST


async def test_unfinished_bodies_make_room(serve: Any) -> None:
    served = await serve(ServerLimits(connections=60, reserved=8))

    async with Silent(served, 80, POST % 1000 + b"\r\nx"):
        assert await answered(served, HEALTH, b"live") >= MOST


async def test_a_silent_connection_is_closed_for_a_new_one_and_a_running_request_is_not(serve: Any) -> None:
    served = await serve(ServerLimits(connections=2, reserved=1))
    await asyncio.sleep(0.2)  # the connection that waited for the start is gone
    served.hold.clear()
    running = asyncio.create_task(served.exchange(POST % 0 + b"\r\n"))
    await eventually(lambda: served.bodies)
    silent, writer = await served.connect()

    health = await served.exchange(HEALTH)
    served.hold.set()

    assert health.endswith(b"live")
    assert await asyncio.wait_for(silent.read(), 60) == b""
    assert (await running).endswith(b"/echo 0")
    writer.close()


async def test_heads_have_less_time_when_the_server_is_nearly_full(serve: Any) -> None:
    served = await serve(ServerLimits(connections=4, head_seconds=5))
    taken = [await served.connect() for _ in range(3)]

    problem = problem_of(await served.exchange(GET[:10]))

    assert "longer than 1 s" in problem["detail"]
    for _, writer in taken:
        writer.close()


async def test_health_is_answered_when_all_connections_are_taken(serve: Any) -> None:
    served = await serve(ServerLimits(connections=3, reserved=4))
    await asyncio.sleep(0.2)
    served.hold.clear()
    taken = [await served.connect() for _ in range(3)]
    for _, writer in taken:
        writer.write(GET)
    await eventually(lambda: len(served.bodies) == 3)

    problem = problem_of(await served.exchange(GET))
    health = await served.exchange(HEALTH)

    assert (problem["status"], problem["type"].rpartition("/")[2]) == (503, "too-many-connections")
    assert health.endswith(b"live")
    served.hold.set()
    for _, writer in taken:
        writer.close()


async def test_silent_connections_of_the_reserve_make_room_for_health_checks(serve: Any) -> None:
    served = await serve(ServerLimits(connections=1, reserved=1))
    await asyncio.sleep(0.2)
    _, stream = await served.connect()
    stream.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: served.streams)

    async with Silent(served, 4):
        assert await answered(served, HEALTH, b"live") >= MOST

    assert served.streams == 1
    stream.close()
    await eventually(lambda: served.streams == 0)


async def test_an_address_has_no_more_connections_than_the_limit(serve: Any) -> None:
    served = await serve(ServerLimits(connections_per_address=2))
    await asyncio.sleep(0.2)
    taken = [await served.connect() for _ in range(2)]
    await asyncio.sleep(0.1)

    response = b""
    with suppress(ConnectionResetError):
        response = await served.exchange(GET)

    assert response == b""
    taken.pop()[1].close()
    await asyncio.sleep(0.2)
    assert (await served.exchange(HEALTH)).endswith(b"live")
    taken.pop()[1].close()


async def test_all_bodies_together_are_bounded(serve: Any) -> None:
    served = await serve(ServerLimits(all_bodies_bytes=MIB))
    served.hold.clear()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (600 * 1024)
    request = head + b"v" * (600 * 1024)

    first = asyncio.create_task(served.exchange(request))
    await eventually(lambda: served.bodies)
    problem = problem_of(await served.exchange(request))
    served.hold.set()

    assert (problem["status"], problem["type"].rpartition("/")[2]) == (503, "server-busy")
    assert (await first).endswith(b"/echo 614400")
    assert (await served.exchange(request)).endswith(b"/echo 614400")


async def test_unfinished_bodies_of_one_client_are_ended_before_those_of_others(serve: Any) -> None:
    served = await serve(ServerLimits(all_bodies_bytes=MIB))
    greedy = POST % (64 * 1024) + b"Authorization: Bearer greedy\r\n\r\n" + b"v" * 60_000
    small = POST % 20_000 + b"Authorization: Bearer small\r\n\r\n" + b"v" * 19_999
    held = await served.connect()
    held[1].write(small)
    await asyncio.sleep(0.1)
    many = [await served.connect() for _ in range(40)]
    for _, writer in many:
        writer.write(greedy)
    ended = asyncio.create_task(many[0][0].read())

    responses = [await served.exchange(small + b"v") for _ in range(10)]
    held[1].write(b"v")

    assert all(response.endswith(b"/echo 20000") for response in responses)
    assert (await held[0].read()).endswith(b"/echo 20000")
    assert problem_of(await asyncio.wait_for(ended, 60))["type"].endswith("/server-busy")
    for _, writer in many:
        writer.transport.abort()
