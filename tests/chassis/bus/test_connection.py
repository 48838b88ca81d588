"""The connection: the first connect, reconnects, round trips, close."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import nats.errors
import pytest
from tests.fixtures.nats_servers import ConfiguredServer

from antiphon.chassis.bus import Bus, BusUnavailable, Outgoing, connection
from antiphon.chassis.bus.client import NatsClient
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.nats_access import NatsAccess
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_connecting_without_a_server_raises_after_the_deadline() -> None:
    port = free_port()
    started = time.monotonic()

    with pytest.raises(BusUnavailable, match=rf"no NATS server answered at nats://127\.0\.0\.1:{port}"):
        await Bus.connect(f"nats://127.0.0.1:{port}", connect_timeout_seconds=0.5)

    assert time.monotonic() - started < 3


async def test_a_server_that_says_nothing_is_reported_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = asyncio.Event()
    connect = NatsClient.connect

    async def impatient(self: NatsClient, *servers: Any, **options: Any) -> None:
        await connect(self, *servers, **{**options, "connect_timeout": 0.2})

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reported.wait()
        writer.close()

    monkeypatch.setattr(NatsClient, "connect", impatient)
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        try:
            with pytest.raises(BusUnavailable, match="within 2 s: TimeoutError"):
                await Bus.connect(f"nats://127.0.0.1:{port}", connect_timeout_seconds=2)
        finally:
            reported.set()


async def test_a_refusal_is_the_reason_though_the_server_also_resets_the_connection() -> None:
    failing = Connection(NatsAccess(url=f"nats://127.0.0.1:{free_port()}"), "test")
    refusal = nats.errors.Error("'Authorization Violation'")
    await failing._error(ConnectionResetError())
    await failing._error(refusal)
    await failing._error(ConnectionResetError(104, "Connection reset by peer"))

    with pytest.raises(BusUnavailable, match="Authorization Violation"):
        await failing.open(0.3)


async def test_the_first_connect_ends_when_nats_py_swallows_the_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nats-py connects on after a cancellation that meets an error, e.g. of a TLS handshake."""
    swallowed = 0

    async def connect(*_: object, **__: object) -> None:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(NatsClient, "connect", connect)
    connecting = asyncio.create_task(Bus.connect("nats://127.0.0.1:1", connect_timeout_seconds=0.1))
    ended, _ = await asyncio.wait([connecting], timeout=30)
    try:
        assert ended
        with pytest.raises(BusUnavailable, match="no NATS server answered"):
            await connecting
        assert swallowed == 1
    finally:
        connecting.cancel()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_connect_waits_for_a_server_that_starts_late(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()
    connecting = asyncio.create_task(Bus.connect(nats_server.url, connect_timeout_seconds=20))
    await asyncio.sleep(0.3)
    nats_server.start()

    late = await connecting

    await late.ready()
    await late.close()


async def test_ready_raises_while_the_broker_is_stopped(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()

    with pytest.raises(BusUnavailable):
        await bus.ready(timeout_seconds=0.3)

    nats_server.start()
    await bus.ready(timeout_seconds=10)


async def test_ready_raises_without_the_stream_of_events(bus: Bus) -> None:
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    with pytest.raises(BusUnavailable, match="stream not found"):
        await bus.ready()


async def test_ready_raises_when_the_broker_does_not_answer(far_bus: Bus, network: Any) -> None:
    network.drop_answers = True

    with pytest.raises(BusUnavailable):
        await far_bus.ready(timeout_seconds=0.3)
    network.drop_answers = False
    network.cut()


async def test_a_dead_read_loop_is_detected_and_replaced(
    bus: Bus, network: Any, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in nats-py's read loop ends the loop, and the client still reports that it is connected."""
    monkeypatch.setattr(connection, "PING_INTERVAL_SECONDS", 0.2)
    broken = await Bus.connect(network.url)
    reading = broken.connection.client._reading_task
    assert reading is not None
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert broken.connection.client.is_connected

    ack = await broken.publish(message(1), timeout_seconds=10)

    assert ack.position == 1
    await broken.close()


async def test_a_connection_closed_by_the_server_is_replaced(
    bus: Bus, far_bus: Bus, message: MessageOf, until: Until
) -> None:
    subscription = await far_bus.subscribe("live.a")
    old = far_bus.connection.client
    await old._process_err("'Authorization Violation'")
    await until(lambda: old.is_closed)

    await far_bus.publish(message(1))
    await far_bus.ready()

    assert far_bus.connection.client is not old
    await bus.announce("live.a", b"still subscribed")
    assert [await subscription.next(5), await subscription.next(5)][-1] == ("live.a", b"still subscribed")


async def test_close_during_an_outage_is_quick(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)
    nats_server.stop()
    started = time.monotonic()

    await other.close()

    assert time.monotonic() - started < 3


async def test_close_flushes_announcements(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)
    subscription = await bus.subscribe("live.a")
    for number in range(500):
        await other.announce("live.a", b"%d" % number)

    await other.close()

    assert [await subscription.next(5) for _ in range(500)] == [("live.a", b"%d" % n) for n in range(500)]


async def test_close_may_be_called_twice(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)

    await other.close()
    await other.close()


async def test_reopening_leaves_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client that is given up while the connection is made again is closed."""
    port = free_port()
    server = ConfiguredServer(tmp_path, f'http: "127.0.0.1:{port}"\n')
    server.start()
    bus = await Bus.connect(server.url)
    await bus.ensure()
    failures = 0
    register = Connection._register

    async def fail(connection: Connection, subscription: Any) -> None:
        nonlocal failures
        failures += 1
        if failures == 2:
            raise ValueError("a mistake of ours")
        if failures <= 3:
            raise BusUnavailable("the connection broke again")
        await register(connection, subscription)

    monkeypatch.setattr(Connection, "_register", fail)
    await bus.connection.client._process_err("'Authorization Violation'")
    async with asyncio.timeout(60):
        while failures <= 3:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)
    await bus.ready(timeout_seconds=30)

    async with asyncio.timeout(60):
        while await _connections(port) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await bus.close()
    server.kill()


async def _connections(port: int) -> int:
    async with httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{port}/connz")
    return int(response.json()["num_connections"])
