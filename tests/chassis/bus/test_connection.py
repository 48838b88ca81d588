"""The connection: patient at first, never given up later, and never believed without a round trip."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable, Outgoing, connection
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_no_server_is_said_after_the_deadline() -> None:
    port = free_port()
    started = time.monotonic()

    with pytest.raises(BusUnavailable, match=rf"no NATS server answered at nats://127\.0\.0\.1:{port}"):
        await Bus.connect(f"nats://127.0.0.1:{port}", connect_timeout_seconds=0.5)

    assert time.monotonic() - started < 3


async def test_a_server_that_starts_late_is_waited_for(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()
    connecting = asyncio.create_task(Bus.connect(nats_server.url, connect_timeout_seconds=20))
    await asyncio.sleep(0.3)
    nats_server.start()

    late = await connecting

    await late.ready()
    await late.close()


async def test_a_stopped_broker_is_not_ready_and_is_ready_again(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()

    with pytest.raises(BusUnavailable):
        await bus.ready(timeout_seconds=0.3)

    nats_server.start()
    await bus.ready(timeout_seconds=10)


async def test_a_broker_without_our_stream_is_not_ready(bus: Bus) -> None:
    assert isinstance(bus, NatsBus)
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    with pytest.raises(BusUnavailable, match="stream not found"):
        await bus.ready()


async def test_a_broker_that_accepts_and_says_nothing_is_not_ready(far_bus: Bus, network: Any) -> None:
    network.swallow_answers = True

    with pytest.raises(BusUnavailable):
        await far_bus.ready(timeout_seconds=0.3)
    network.swallow_answers = False
    network.cut()


async def test_a_dead_read_loop_is_noticed_and_healed(
    bus: Bus, network: Any, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error inside nats-py's read loop ends it, and the client goes on to call itself connected."""
    monkeypatch.setattr(connection, "PING_INTERVAL_SECONDS", 0.2)
    deaf = await Bus.connect(network.url)
    assert isinstance(deaf, NatsBus)
    reading = deaf.connection.client._reading_task
    assert reading is not None
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert deaf.connection.client.is_connected

    ack = await deaf.publish(message(1), timeout_seconds=10)

    assert ack.position == 1
    await deaf.close()


async def test_a_connection_closed_for_good_by_the_server_is_made_anew(
    bus: Bus, far_bus: Bus, message: MessageOf, until: Until
) -> None:
    assert isinstance(far_bus, NatsBus)
    listening = await far_bus.subscribe("live.a")
    old = far_bus.connection.client
    await old._process_err("'Authorization Violation'")
    await until(lambda: old.is_closed)

    await far_bus.publish(message(1))
    await far_bus.ready()

    assert far_bus.connection.client is not old
    await bus.announce("live.a", b"still heard")
    assert [await listening.next(5), await listening.next(5)][-1] == ("live.a", b"still heard")


async def test_closing_while_the_broker_is_away_is_quick(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)
    nats_server.stop()
    started = time.monotonic()

    await other.close()

    assert time.monotonic() - started < 3


async def test_what_was_announced_before_closing_is_heard(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)
    listening = await bus.subscribe("live.a")
    for number in range(500):
        await other.announce("live.a", b"%d" % number)

    await other.close()

    assert [await listening.next(5) for _ in range(500)] == [("live.a", b"%d" % n) for n in range(500)]


async def test_closing_twice_is_fine(nats_server: NatsServer, bus: Bus) -> None:
    other = await Bus.connect(nats_server.url)

    await other.close()
    await other.close()
