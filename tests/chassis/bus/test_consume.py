"""The puller on a real server, with the known failures of pull loops; ack subjects."""

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
    consume,
)
from antiphon.chassis.bus.consume import AckSubject
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
    """Pull as persistence does: after any error, reset to the next position and continue."""
    received: list[Incoming] = []
    while len(received) < count:
        try:
            await bus.reset_consumer(CONSUMER, received[-1].position + 1 if received else 1)
            async with bus.pull(CONSUMER, batch=batch) as puller:
                while len(received) < count:
                    received += await puller.next()
                    await puller.ack_through(received[-1])
        except BusError:
            await asyncio.sleep(0.1)
    return [incoming.payload for incoming in received]


@asynccontextmanager
async def responsive_event_loop(limit_seconds: float) -> AsyncIterator[None]:
    """Check that the event loop was never blocked for longer than the limit."""
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


async def test_a_failed_batch_is_redelivered_after_a_reset(bus: Bus, message: MessageOf) -> None:
    await fill(bus, message, 50)

    async def fail() -> None:
        async with bus.pull(CONSUMER) as puller:
            await puller.next()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await drain(bus, 50) == [b"%d" % number for number in range(50)]


async def test_payloads_need_not_be_json(bus: Bus, message: MessageOf) -> None:
    await bus.publish(Outgoing(message(1).subject, b"\xff\x00{", "poison"))
    await bus.publish(message(2))

    assert await drain(bus, 2) == [b"\xff\x00{", b"2"]


@pytest.mark.parametrize("thing", ["CONSUMER.DELETE.SESSIONS." + CONSUMER.name, "STREAM.DELETE.SESSIONS"])
async def test_deleted_consumer_raises_and_is_not_polled_further(bus: Bus, thing: str) -> None:
    async with bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.1)
        sent = bus.connection.client.stats["out_msgs"]

        await bus.connection.api(thing)

        with pytest.raises(ConsumerLost):
            await asyncio.wait_for(waiting, 15)
        assert bus.connection.client.stats["out_msgs"] - sent < 80


async def test_missing_consumer_raises(bus: Bus) -> None:
    await bus.connection.api("CONSUMER.DELETE.SESSIONS." + CONSUMER.name)

    with pytest.raises(ConsumerLost):
        async with bus.pull(CONSUMER):
            pytest.fail("the puller opened")
    with pytest.raises(ConsumerLost):
        await bus.reset_consumer(CONSUMER, 1)


async def test_an_outage_never_blocks_the_event_loop_and_pulling_resumes(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    await fill(bus, message, 100)
    async with responsive_event_loop(limit_seconds=1.0):
        draining = asyncio.create_task(drain(bus, 200))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(nats_server.kill)
        await asyncio.sleep(1.0)
        nats_server.start()
        await bus.publish_many([message(number) for number in range(100, 200)], timeout_seconds=30)

        received = await asyncio.wait_for(draining, 30)

    assert received == [b"%d" % number for number in range(200)]


async def test_an_idle_puller_receives_after_a_connection_loss(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf, until: Until
) -> None:
    async with far_bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.1)
        before = puller._inbox
        network.cut()
        # A delivery before the puller has resumed may be lost, which raises ConsumerGap.
        await until(lambda: puller._inbox != before and not puller._reconnected)
        await bus.publish(message(1))

        received = await asyncio.wait_for(waiting, 60)

    assert [incoming.payload for incoming in received] == [b"1"]


async def test_deliveries_lost_in_transit_raise(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    async with far_bus.pull(CONSUMER, batch=10) as puller:
        network.drop_answers = True
        await bus.publish(message(1))
        info: dict[str, Any] = {"num_ack_pending": 0}
        while info["num_ack_pending"] == 0:
            info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.{CONSUMER.name}")
        network.drop_answers = False
        network.cut()
        await bus.publish(message(2))

        with pytest.raises(ConsumerGap):
            await asyncio.wait_for(puller.next(), 15)

    assert await drain(bus, 2) == [b"1", b"2"]


async def test_lost_pulls_are_sent_again(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "STALL_SECONDS", 0.5)
    publish = bus.connection.publish
    dropped = 0

    async def drop_the_first_pulls(subject: str, *rest: Any, **named: Any) -> None:
        nonlocal dropped
        if "MSG.NEXT" in subject and dropped < 2:
            dropped += 1
            return
        await publish(subject, *rest, **named)

    monkeypatch.setattr(bus.connection, "publish", drop_the_first_pulls)
    await bus.publish(message(1))

    async with bus.pull(CONSUMER) as puller:
        received = await asyncio.wait_for(puller.next(), 5)

    assert dropped == 2
    assert [incoming.payload for incoming in received] == [b"1"]


async def test_a_reset_during_a_pull_raises(bus: Bus, message: MessageOf) -> None:
    await fill(bus, message, 5)
    async with bus.pull(CONSUMER) as puller:
        first: list[Incoming] = []
        while len(first) < 5:
            first += await puller.next()

        await bus.reset_consumer(CONSUMER, 1)

        with pytest.raises(ConsumerGap):
            await asyncio.wait_for(puller.next(), 10)


async def test_a_slow_reader_gets_everything_from_a_bounded_buffer(bus: Bus, message: MessageOf) -> None:
    await fill(bus, message, 5000)
    received: list[bytes] = []
    async with bus.pull(CONSUMER, batch=100) as puller:
        while len(received) < 5000:
            batch = await puller.next()
            received += [incoming.payload for incoming in batch]
            assert puller.buffered <= 200
            await puller.ack_through(batch[-1])

    assert received == [b"%d" % number for number in range(5000)]


async def test_an_idle_puller_sends_few_requests(bus: Bus) -> None:
    async with bus.pull(CONSUMER) as puller:
        waiting = asyncio.create_task(puller.next())
        await asyncio.sleep(0.2)
        sent = bus.connection.client.stats["out_msgs"]
        await asyncio.sleep(2.5)

        assert bus.connection.client.stats["out_msgs"] - sent <= 4
        waiting.cancel()


async def test_unconfirmed_ack_raises(nats_server: NatsServer, bus: Bus, message: MessageOf) -> None:
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


async def test_ack_subjects_with_domain_and_account_are_accepted(
    tmp_path: Path, message: MessageOf, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """A client that parses the fifth token as a number fails on them."""
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


@pytest.mark.parametrize(
    "text",
    [
        "$JS.ACK.SESSIONS.ingest-3.1.42.7.1700000000000000000.5",
        "$JS.ACK._.F2YoCvPh.SESSIONS.ingest-3.1.42.7.1700000000000000000.5",
        "$JS.ACK.hub.F2YoCvPh.SESSIONS.ingest-3.1.42.7.1700000000000000000.5.random",
    ],
)
def test_every_form_of_ack_subject_is_parsed(text: str) -> None:
    ack = AckSubject.parse(text)

    assert (ack.position, ack.consumer_sequence) == (42, 7)
    assert (ack.deliveries, ack.pending) == (1, 5)
    assert ack.published_at.timestamp() == 1_700_000_000


@pytest.mark.parametrize("text", ["", "$JS.ACK.SESSIONS.x", "$JS.ACK.a.b.c.d.e.f.g.h"])
def test_malformed_ack_subject_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|not an ack subject"):
        AckSubject.parse(text)


async def test_a_mistake_of_ours_is_raised_by_next(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bus.pull(CONSUMER) as puller:

        async def fail() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(puller, "_request_batches", fail)
        with pytest.raises(ConsumerLost, match="ZeroDivisionError"):
            await asyncio.wait_for(puller.next(), 60)


async def test_an_unreadable_delivery_is_raised_by_next(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus.pull(CONSUMER) as puller:

        def fail(_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(puller, "_on_status", fail)  # of a heartbeat or an expired pull
        with pytest.raises(ConsumerGap, match="ZeroDivisionError"):
            await asyncio.wait_for(puller.next(), 60)


async def test_a_silent_server_is_unavailable(
    bus: Bus, far_bus: Bus, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.chassis.bus.consume.UNANSWERED_SECONDS", 3.0)
    async with far_bus.pull(CONSUMER) as puller:
        network.drop_answers = True
        with pytest.raises(BusUnavailable, match="no answer"):
            await asyncio.wait_for(puller.next(), 60)
    network.drop_answers = False
    network.cut()


async def test_a_quiet_consumer_is_not_silent(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.chassis.bus.consume.UNANSWERED_SECONDS", 3.0)
    async with bus.pull(CONSUMER) as puller:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(puller.next(), 6)
