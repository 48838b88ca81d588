"""The puller against a real broker, and against every fault known of other pull loops."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.chassis.bus import (
    Bus,
    BusError,
    BusUnavailable,
    ConsumerGap,
    ConsumerLost,
    Incoming,
    Outgoing,
    pull,
)
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.cli.stack import nats
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import partition_of

SESSION = "ses_00000000000000000000000001"
CONSUMER = ingest_consumer(partition_of(SESSION))

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def fill(bus: Bus, message: MessageOf, count: int, start: int = 0) -> None:
    for first in range(start, start + count, 1000):
        last = min(first + 1000, start + count)
        await bus.publish_many([message(number) for number in range(first, last)])


async def drain(bus: Bus, count: int, batch: int = 500) -> list[bytes]:
    """Pull as persistence does: after any error, reset to what is kept, and go on."""
    kept: list[Incoming] = []
    while len(kept) < count:
        try:
            await bus.reset_consumer(CONSUMER, kept[-1].position + 1 if kept else 1)
            async with bus.pull(CONSUMER, batch=batch) as puller:
                while len(kept) < count:
                    kept += await puller.next()
                    await puller.ack_through(kept[-1])
        except BusError:
            await asyncio.sleep(0.1)
    return [incoming.payload for incoming in kept]


@asynccontextmanager
async def turning_loop(limit_seconds: float) -> AsyncIterator[None]:
    """Prove that the event loop was never held for longer than the limit."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()
    assert longest < limit_seconds


async def test_a_batch_whose_handler_failed_comes_again_after_a_reset(bus: Bus, message: MessageOf) -> None:
    await fill(bus, message, 50)

    async def fail() -> None:
        async with bus.pull(CONSUMER) as puller:
            await puller.next()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await drain(bus, 50) == [b"%d" % number for number in range(50)]


async def test_bytes_that_are_no_json_pass_like_any_other(bus: Bus, message: MessageOf) -> None:
    await bus.publish(Outgoing(message(1).subject, b"\xff\x00{", "poison"))
    await bus.publish(message(2))

    assert await drain(bus, 2) == [b"\xff\x00{", b"2"]


@pytest.mark.parametrize("thing", ["CONSUMER.DELETE.SESSIONS." + CONSUMER.name, "STREAM.DELETE.SESSIONS"])
async def test_a_deleted_consumer_is_reported_and_not_polled_for_ever(bus: Bus, thing: str) -> None:
    assert isinstance(bus, NatsBus)
    async with bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.1)
        sent = bus.connection.client.stats["out_msgs"]

        await bus.connection.api(thing)

        with pytest.raises(ConsumerLost):
            await asyncio.wait_for(waiting, 15)
        assert bus.connection.client.stats["out_msgs"] - sent < 80


async def test_a_consumer_that_was_never_there_is_reported(bus: Bus) -> None:
    assert isinstance(bus, NatsBus)
    await bus.connection.api("CONSUMER.DELETE.SESSIONS." + CONSUMER.name)

    with pytest.raises(ConsumerLost):
        async with bus.pull(CONSUMER):
            pytest.fail("the puller opened")
    with pytest.raises(ConsumerLost):
        await bus.reset_consumer(CONSUMER, 1)


async def test_a_broker_away_never_holds_the_loop_and_pulling_goes_on_afterwards(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    await fill(bus, message, 100)
    async with turning_loop(limit_seconds=1.0):
        draining = asyncio.create_task(drain(bus, 200))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(nats_server.kill)
        await asyncio.sleep(1.0)
        nats_server.start()
        await bus.publish_many([message(number) for number in range(100, 200)], timeout_seconds=30)

        received = await asyncio.wait_for(draining, 30)

    assert received == [b"%d" % number for number in range(200)]


async def test_a_quiet_puller_hears_again_after_a_cut_network(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    async with far_bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.1)
        network.cut()
        await bus.publish(message(1))

        received = await asyncio.wait_for(waiting, 5)

    assert [incoming.payload for incoming in received] == [b"1"]


async def test_deliveries_lost_on_the_way_are_noticed(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    assert isinstance(bus, NatsBus)
    async with far_bus.pull(CONSUMER, batch=10) as puller:
        network.swallow_answers = True
        await bus.publish(message(1))
        info: dict[str, Any] = {"num_ack_pending": 0}
        while info["num_ack_pending"] == 0:
            info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.{CONSUMER.name}")
        network.swallow_answers = False
        network.cut()
        await bus.publish(message(2))

        with pytest.raises(ConsumerGap):
            await asyncio.wait_for(puller.next(), 15)

    assert await drain(bus, 2) == [b"1", b"2"]


async def test_lost_pulls_are_noticed_by_their_silence(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "STALL_SECONDS", 0.5)
    assert isinstance(bus, NatsBus)
    publish = bus.connection.publish
    lost = 0

    async def lose_the_first_pulls(subject: str, *rest: Any, **named: Any) -> None:
        nonlocal lost
        if "MSG.NEXT" in subject and lost < 2:
            lost += 1
            return
        await publish(subject, *rest, **named)

    monkeypatch.setattr(bus.connection, "publish", lose_the_first_pulls)
    await bus.publish(message(1))

    async with bus.pull(CONSUMER) as puller:
        received = await asyncio.wait_for(puller.next(), 5)

    assert lost == 2
    assert [incoming.payload for incoming in received] == [b"1"]


async def test_a_reset_under_a_puller_is_noticed(bus: Bus, message: MessageOf) -> None:
    await fill(bus, message, 5)
    async with bus.pull(CONSUMER) as puller:
        first: list[Incoming] = []
        while len(first) < 5:
            first += await puller.next()

        await bus.reset_consumer(CONSUMER, 1)

        with pytest.raises(ConsumerGap):
            await asyncio.wait_for(puller.next(), 10)


async def test_a_slow_taker_gets_everything_and_the_buffer_stays_bounded(
    bus: Bus, message: MessageOf
) -> None:
    await fill(bus, message, 5000)
    received: list[bytes] = []
    async with bus.pull(CONSUMER, batch=100) as puller:
        assert isinstance(puller, pull.NatsPuller)
        while len(received) < 5000:
            batch = await puller.next()
            received += [incoming.payload for incoming in batch]
            assert puller.buffered <= 200
            await puller.ack_through(batch[-1])

    assert received == [b"%d" % number for number in range(5000)]


async def test_nothing_is_asked_for_while_nothing_comes(bus: Bus) -> None:
    assert isinstance(bus, NatsBus)
    async with bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.2)
        sent = bus.connection.client.stats["out_msgs"]
        await asyncio.sleep(2.5)

        assert bus.connection.client.stats["out_msgs"] - sent <= 4
        waiting.cancel()


async def test_an_ack_that_is_not_noted_is_said(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    await bus.publish(message(1))
    async with bus.pull(CONSUMER) as puller:
        received = await puller.next()
        nats_server.stop()

        with pytest.raises(BusUnavailable):
            await puller.ack_through(received[-1], timeout_seconds=0.3)


async def test_killed_brokers_lose_and_repeat_nothing(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    await fill(bus, message, 1000)
    draining = asyncio.create_task(drain(bus, 3000, batch=50))
    for start in (1000, 2000):
        filling = asyncio.create_task(
            bus.publish_many([message(number) for number in range(start, start + 1000)], timeout_seconds=30)
        )
        await asyncio.sleep(0.05)
        await asyncio.to_thread(nats_server.kill)
        nats_server.start()
        await filling

    received = await asyncio.wait_for(draining, 60)

    assert received == [b"%d" % number for number in range(3000)]


async def test_the_second_form_of_ack_subjects_is_understood(
    tmp_path: Path, message: MessageOf, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """It ends the read loop of a client that takes its fifth token for a number."""
    monkeypatch.setattr("antiphon.cli.stack.nats.CONFIG", nats.CONFIG.replace("v2: false", "v2: true"))
    server = NatsServer(tmp_path)
    server.start()
    bus = await Bus.connect(server.url)
    await bus.ensure()
    watched = await (await bus.bucket("keys")).watch()
    await fill(bus, message, 1200)

    assert await drain(bus, 1200) == [b"%d" % number for number in range(1200)]
    async with bus.pull(CONSUMER) as puller:
        await bus.publish(message(1200))
        (incoming,) = await puller.next()
        assert len(incoming.ack_subject.split(".")) >= 11
    await (await bus.bucket("keys")).put("a", b"1")
    await until(lambda: dict(watched) == {"a": b"1"})

    await watched.close()
    await bus.close()
    server.stop()
