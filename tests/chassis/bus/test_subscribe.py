"""Subscriptions: their queue and timer, and reconnects."""

import asyncio
import time
from typing import Any

from antiphon.chassis.bus import MISSED, Bus
from antiphon.chassis.bus.subscribe import QUEUE_BYTES, Subscription
from antiphon.cli.stack.nats import NatsServer


def local(limit: int = 10) -> Subscription:
    """Make a subscription without a server."""
    return Subscription(lambda _: None, limit)


async def test_a_shorter_wait_after_a_longer_one_ends_in_time() -> None:
    subscription = local()
    subscription.put("a", b"1")
    assert await subscription.next(60) == ("a", b"1")
    waiting = asyncio.create_task(subscription.next(60))
    await asyncio.sleep(0)
    subscription.put("a", b"2")
    assert await waiting == ("a", b"2")
    started = time.monotonic()

    assert await subscription.next(0.05) is None

    assert time.monotonic() - started < 2


async def test_a_longer_wait_after_a_shorter_one_is_not_cut_short() -> None:
    subscription = local()
    waiting = asyncio.create_task(subscription.next(0.05))
    await asyncio.sleep(0)
    subscription.put("a", b"1")
    assert await waiting == ("a", b"1")

    waiting = asyncio.create_task(subscription.next(30))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    subscription.put("a", b"2")
    assert await waiting == ("a", b"2")


async def test_a_wait_without_a_deadline_outlives_an_old_timer() -> None:
    subscription = local()
    assert await subscription.next(0.01) is None
    waiting = asyncio.create_task(subscription.next())
    await asyncio.sleep(0.05)
    assert not waiting.done()

    await subscription.close()

    assert await waiting is None


async def test_a_wait_may_follow_a_cancelled_one() -> None:
    subscription = local()
    waiting = asyncio.create_task(subscription.next(30))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    subscription.put("a", b"1")

    assert await subscription.next(5) == ("a", b"1")


async def test_an_overflow_is_replaced_by_missed() -> None:
    subscription = local(limit=3)
    for number in range(5):
        subscription.put("a", b"%d" % number)

    assert await subscription.next() is MISSED
    assert [await subscription.next(), await subscription.next()] == [("a", b"3"), ("a", b"4")]


async def test_missed_is_queued_once_in_a_row() -> None:
    subscription = local()
    subscription.put_missed()
    subscription.put_missed()

    assert await subscription.next() is MISSED
    assert await subscription.next(0.01) is None


async def test_a_reconnect_queues_missed(bus: Bus, far_bus: Bus, network: Any) -> None:
    subscription = await far_bus.subscribe("live.>")
    network.cut()

    assert await subscription.next(10) is MISSED
    await bus.announce("live.a", b"1")
    assert await subscription.next(5) == ("live.a", b"1")


async def test_a_thousand_subscriptions_to_a_subject_share_one_on_the_server(bus: Bus) -> None:
    before = len(bus.connection.client._subs)

    subscriptions = await asyncio.gather(*(bus.subscribe("live.a") for _ in range(1000)))

    assert len(bus.connection.client._subs) == before + 1
    await bus.announce("live.a", b"1")
    assert {await subscription.next(5) for subscription in subscriptions} == {("live.a", b"1")}
    for subscription in subscriptions:
        await subscription.close()
    await bus.ready()
    assert len(bus.connection.client._subs) == before


async def test_announcing_during_an_outage_raises_nothing(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()

    for _ in range(3):
        await bus.announce("live.a", b"1")


async def test_a_queue_of_large_announcements_is_bounded_in_bytes() -> None:
    subscription = local(limit=1000)
    for number in range(10):
        subscription.put("a", b"%d" % number + bytes(QUEUE_BYTES // 4))

    received = []
    while (announcement := await subscription.next(0.01)) is not None:
        received.append(announcement)

    assert received[0] is MISSED
    assert [payload[:1] for _, payload in received[1:]] == [b"8", b"9"]
    subscription.put("a", bytes(QUEUE_BYTES // 4))
    assert await subscription.next() == ("a", bytes(QUEUE_BYTES // 4))  # what was taken no longer counts


async def test_announcing_more_than_the_broker_accepts_raises_nothing(bus: Bus) -> None:
    subscription = await bus.subscribe("live.a")

    await bus.announce("live.a", b"x" * (bus.connection.client.max_payload + 1))
    await bus.announce("live.a", b"next")

    assert await subscription.next(30) == ("live.a", b"next")
