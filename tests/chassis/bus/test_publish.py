"""Publishing during faults: nothing is lost, nothing is stored twice, nothing hangs."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.clock import FixedClock

from antiphon.chassis.bus import Bus, BusUnavailable, Outgoing, PayloadTooLarge, StreamFull, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import event_subject, session_filter

SESSION = "ses_00000000000000000000000001"
SUBJECT = event_subject("default", SESSION, "turn")

MessageOf = Callable[..., Outgoing]


async def stored(bus: Bus) -> list[bytes]:
    return [incoming.payload async for incoming in bus.read(session_filter("default", SESSION))]


async def until_stored(bus: Bus, count: int) -> None:
    async with asyncio.timeout(60):
        while len(await stored(bus)) < count:  # noqa: ASYNC110 - the stream has no event for it
            await asyncio.sleep(0.005)


async def test_a_lost_ack_is_retried_and_found_stored(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    network.drop_answers = True
    publishing = asyncio.create_task(far_bus.publish(message(1)))
    await until_stored(bus, 1)
    network.drop_answers = False
    network.cut()

    ack = await publishing

    assert ack.duplicate
    assert await stored(bus) == [b"1"]


async def test_a_lost_ack_of_an_expected_first_message_is_recognised(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    network.drop_answers = True
    publishing = asyncio.create_task(
        far_bus.publish(message(1), expect_empty=session_filter("default", SESSION))
    )
    await until_stored(bus, 1)
    network.drop_answers = False
    network.cut()

    ack = await publishing

    assert (ack.position, ack.duplicate) == (1, True)


async def test_a_lost_ack_of_a_batch_recovers_every_position(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    network.drop_answers = True
    publishing = asyncio.create_task(far_bus.publish_many([message(number) for number in range(20)]))
    await until_stored(bus, 20)
    network.drop_answers = False
    network.cut()

    acks = await publishing

    assert [ack.position for ack in acks] == list(range(1, 21))
    assert all(ack.duplicate for ack in acks)


async def test_publishing_survives_a_killed_broker(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    async def publish_all() -> None:
        for number in range(300):
            await bus.publish(message(number), timeout_seconds=30)

    publishing = asyncio.create_task(publish_all())
    await until_stored(bus, 50)
    await asyncio.to_thread(nats_server.kill)
    nats_server.start()

    await publishing

    assert await stored(bus) == [b"%d" % number for number in range(300)]


async def test_publish_during_an_outage_raises_at_its_deadline(
    nats_server: NatsServer, bus: Bus, message: MessageOf
) -> None:
    nats_server.stop()
    started = time.monotonic()

    with pytest.raises(BusUnavailable, match=r"not acknowledged within 0\.5 s"):
        await bus.publish(message(1), timeout_seconds=0.5)

    assert time.monotonic() - started < 2


async def test_headers_count_towards_the_size_limit(bus: Bus) -> None:
    """The server closes the connection on a message that is too large."""
    just_fits_without_headers = Outgoing(SUBJECT, b"x" * ((1 << 20) - 20), "id", {"a": "b" * 500})

    with pytest.raises(PayloadTooLarge):
        await bus.publish(just_fits_without_headers)

    await bus.ready()


async def test_a_full_stream_raises(bus: Bus, message: MessageOf) -> None:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", {**info["config"], "max_bytes": 1000})

    async def publish_until_full() -> None:
        for number in range(20):
            await bus.publish(message(number, size=200), timeout_seconds=0.3)

    with pytest.raises(StreamFull):
        await publish_until_full()

    assert await stored(bus)


async def test_a_full_stream_is_named_when_the_last_attempt_has_no_answer(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", info["config"] | {"sealed": True})
    request, answered = bus.connection.request, False

    async def answer_once(*arguments: Any) -> Any:
        nonlocal answered
        if answered:
            raise TimeoutError
        answered = True
        return await request(*arguments)

    monkeypatch.setattr(bus.connection, "request", answer_once)
    with pytest.raises(StreamFull, match="not acknowledged within"):
        await bus.publish(message(1), timeout_seconds=0.3)


def test_an_event_is_addressed_by_its_family_with_its_trace() -> None:
    envelope = seal(
        CommandRequested(command_id="1", verb="end", actor="test"),
        id="one",
        session_id=SESSION,
        tenant="default",
        producer="test",
        producerseq=1,
        time=FixedClock()(),
        traceparent="00-aa-bb-01",
    )

    out = outgoing(envelope)

    assert out.subject == event_subject("default", SESSION, "command")
    assert out.message_id == "one"
    assert out.headers == {"traceparent": "00-aa-bb-01"}


async def test_a_message_that_only_fits_alone_is_published_with_the_others(
    bus: Bus, message: MessageOf
) -> None:
    """The headers of a batch take space too."""
    room = bus.max_payload - 120
    acks = await bus.publish_many([message(1), message(2, size=room), message(3)])

    assert [ack.position for ack in acks] == [1, 2, 3]


async def test_a_message_that_is_too_large_leaves_none_of_the_others(bus: Bus, message: MessageOf) -> None:
    with pytest.raises(PayloadTooLarge):
        await bus.publish_many([message(1), message(2, size=bus.max_payload), message(3)])

    assert await stored(bus) == []


async def test_a_message_without_headers_may_be_as_large_as_the_broker_takes(bus: Bus) -> None:
    await bus.connection.api("STREAM.CREATE.LARGE", {"name": "LARGE", "subjects": ["large"]})
    try:
        ack = await bus.publish(Outgoing("large", b"x" * bus.max_payload, ""))
    finally:
        await bus.connection.api("STREAM.DELETE.LARGE")

    assert ack.position == 1
