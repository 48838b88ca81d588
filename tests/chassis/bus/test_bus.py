"""Every method of the bus, on a real server."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antiphon.chassis.bus import (
    MISSED,
    Bus,
    ConsumerGap,
    Incoming,
    KeyExists,
    Outgoing,
    PayloadTooLarge,
    StreamReplaced,
    SubjectNotEmpty,
)
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import event_subject, partition_of, session_filter

SESSION = "ses_00000000000000000000000001"
OTHER = "ses_00000000000000000000000002"
EVENTS_OF_SESSION = session_filter("default", SESSION)
CONSUMER = ingest_consumer(partition_of(SESSION))

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def publish(bus: Bus, message: MessageOf, *numbers: int) -> None:
    for number in numbers:
        await bus.publish(message(number))


async def payloads(bus: Bus, subject_filter: str, after: int = 0) -> list[bytes]:
    return [incoming.payload async for incoming in bus.read(subject_filter, after)]


class TestPublish:
    async def test_positions_are_consecutive(self, bus: Bus, message: MessageOf) -> None:
        acks = [await bus.publish(message(number)) for number in (1, 2, 3)]

        assert [ack.position for ack in acks] == [1, 2, 3]
        assert not any(ack.duplicate for ack in acks)

    async def test_a_message_id_is_stored_once(self, bus: Bus, message: MessageOf) -> None:
        first = await bus.publish(message(1))

        again = await bus.publish(message(1))

        assert again.duplicate
        assert again.position == first.position
        assert await payloads(bus, EVENTS_OF_SESSION) == [b"1"]

    async def test_headers_and_message_id_are_stored(self, bus: Bus) -> None:
        subject = event_subject("default", SESSION, "turn")
        await bus.publish(Outgoing(subject, b"x", "id-1", {"traceparent": "00-aa-bb-01"}))

        stored = await bus.last(subject)

        assert stored is not None
        assert stored.headers is not None
        assert stored.headers["traceparent"] == "00-aa-bb-01"
        assert stored.headers["Nats-Msg-Id"] == "id-1"
        assert stored.published_at is not None

    async def test_expect_empty_accepts_the_first_message(self, bus: Bus, message: MessageOf) -> None:
        ack = await bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)

        assert not ack.duplicate

    async def test_expect_empty_recognises_its_own_message(self, bus: Bus, message: MessageOf) -> None:
        first = await bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)
        await publish(bus, message, 2)

        again = await bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)

        assert again.duplicate
        assert again.position == first.position

    async def test_expect_empty_refuses_another_message(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1)

        with pytest.raises(SubjectNotEmpty):
            await bus.publish(message(2), expect_empty=EVENTS_OF_SESSION)

        assert await payloads(bus, EVENTS_OF_SESSION) == [b"1"]

    async def test_expect_empty_accepts_one_of_many_concurrent_messages(
        self, bus: Bus, message: MessageOf
    ) -> None:
        results = await asyncio.gather(
            *(bus.publish(message(number), expect_empty=EVENTS_OF_SESSION) for number in range(10)),
            return_exceptions=True,
        )

        assert sum(isinstance(result, SubjectNotEmpty) for result in results) == 9
        assert len(await payloads(bus, EVENTS_OF_SESSION)) == 1

    async def test_too_large_payload_raises_at_once(self, bus: Bus, message: MessageOf) -> None:
        with pytest.raises(PayloadTooLarge):
            await bus.publish(message(1, size=2 << 20))

    async def test_subject_without_a_stream_raises(self, bus: Bus) -> None:
        with pytest.raises(Exception, match=r"elsewhere\.1"):
            await bus.publish(Outgoing("elsewhere.1", b"x", "1"), timeout_seconds=0.3)


class TestPublishMany:
    async def test_positions_follow_the_order(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 0)

        acks = await bus.publish_many([message(number) for number in range(1, 6)])

        assert [ack.position for ack in acks] == [2, 3, 4, 5, 6]
        assert await payloads(bus, EVENTS_OF_SESSION) == [b"0", b"1", b"2", b"3", b"4", b"5"]

    async def test_a_duplicate_in_a_batch_is_marked(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 2)

        acks = await bus.publish_many([message(1), message(2), message(3)])

        assert [ack.duplicate for ack in acks] == [False, True, False]
        assert [ack.position for ack in acks] == [2, 1, 3]
        assert await payloads(bus, EVENTS_OF_SESSION) == [b"2", b"1", b"3"]

    async def test_empty_and_single_batches_are_accepted(self, bus: Bus, message: MessageOf) -> None:
        assert await bus.publish_many([]) == []
        assert [ack.position for ack in await bus.publish_many([message(1)])] == [1]

    async def test_too_many_messages_raise(self, bus: Bus, message: MessageOf) -> None:
        with pytest.raises(ValueError, match="1000"):
            await bus.publish_many([message(number) for number in range(1001)])


class TestRead:
    async def test_a_filter_selects_one_session(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1)
        await bus.publish(message(7, session=OTHER))
        await publish(bus, message, 2)

        assert await payloads(bus, EVENTS_OF_SESSION) == [b"1", b"2"]

    async def test_read_starts_after_a_position(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1, 2, 3)

        assert await payloads(bus, EVENTS_OF_SESSION, after=2) == [b"3"]

    async def test_an_empty_subject_reads_as_empty(self, bus: Bus) -> None:
        assert await payloads(bus, EVENTS_OF_SESSION) == []
        assert await bus.last(EVENTS_OF_SESSION) is None

    async def test_several_batches_are_complete_and_in_order(self, bus: Bus, message: MessageOf) -> None:
        await bus.publish_many([message(number) for number in range(1000)])
        await bus.publish_many([message(number) for number in range(1000, 1700)])

        assert await payloads(bus, EVENTS_OF_SESSION) == [b"%d" % number for number in range(1700)]

    async def test_last_returns_the_newest_message(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1, 2)

        newest = await bus.last(EVENTS_OF_SESSION)

        assert newest is not None
        assert (newest.payload, newest.position) == (b"2", 2)


class TestPull:
    async def test_messages_arrive_in_order_with_their_sequences(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1, 2, 3)

        async with bus.pull(CONSUMER) as puller:
            received: list[Incoming] = []
            while len(received) < 3:
                received += await puller.next()

        assert [incoming.payload for incoming in received] == [b"1", b"2", b"3"]
        assert [incoming.consumer_sequence for incoming in received] == [1, 2, 3]
        assert [incoming.position for incoming in received] == [1, 2, 3]

    async def test_a_batch_never_exceeds_its_limit(self, bus: Bus, message: MessageOf) -> None:
        await bus.publish_many([message(number) for number in range(100)])

        async with bus.pull(CONSUMER, batch=7) as puller:
            received: list[bytes] = []
            while len(received) < 100:
                batch = await puller.next()
                assert 1 <= len(batch) <= 7
                received += [incoming.payload for incoming in batch]
                await puller.ack_through(batch[-1])

        assert received == [b"%d" % number for number in range(100)]

    async def test_next_waits_for_a_later_message(self, bus: Bus, message: MessageOf) -> None:
        async with bus.pull(CONSUMER) as puller:
            waiting = asyncio.create_task(puller.next())
            await publish(bus, message, 1)

            assert [incoming.payload for incoming in await waiting] == [b"1"]

    async def test_acknowledged_messages_are_not_redelivered(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1)
        async with bus.pull(CONSUMER) as puller:
            await puller.ack_through((await puller.next())[-1])
        await publish(bus, message, 2)

        async with bus.pull(CONSUMER) as puller:
            assert [incoming.payload for incoming in await puller.next()] == [b"2"]

    async def test_pulling_with_unacknowledged_deliveries_raises(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1)
        async with bus.pull(CONSUMER) as puller:
            await puller.next()

        with pytest.raises(ConsumerGap):
            async with bus.pull(CONSUMER):
                pytest.fail("the puller opened")

    async def test_reset_delivers_again_from_a_position(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1, 2, 3)
        async with bus.pull(CONSUMER) as puller:
            await puller.ack_through((await puller.next())[-1])

        await bus.reset_consumer(CONSUMER, 2)

        async with bus.pull(CONSUMER) as puller:
            received: list[Incoming] = []
            while len(received) < 2:
                received += await puller.next()
        assert [incoming.payload for incoming in received] == [b"2", b"3"]
        assert [incoming.consumer_sequence for incoming in received] == [1, 2]

    async def test_reset_to_the_next_position_waits_for_it(self, bus: Bus, message: MessageOf) -> None:
        await publish(bus, message, 1, 2)
        await bus.reset_consumer(CONSUMER, 3)

        async with bus.pull(CONSUMER) as puller:
            await publish(bus, message, 3)

            assert [incoming.payload for incoming in await puller.next()] == [b"3"]

    async def test_reset_past_the_end_of_the_stream_raises(self, bus: Bus, message: MessageOf) -> None:
        """The stream must have been recreated: to continue would skip its messages."""
        await publish(bus, message, 1)

        with pytest.raises(StreamReplaced):
            await bus.reset_consumer(CONSUMER, 3)


class TestAnnounce:
    async def test_subscribers_receive_matching_subjects(self, bus: Bus) -> None:
        subscription = await bus.subscribe("committed.3.>")

        await bus.announce("committed.4.default.other", b"no")
        await bus.announce("committed.3.default.one", b"yes")

        assert await subscription.next(5) == ("committed.3.default.one", b"yes")
        await subscription.close()

    async def test_every_subscriber_of_a_subject_receives(self, bus: Bus) -> None:
        first, second = await bus.subscribe("live.a"), await bus.subscribe("live.a")

        await bus.announce("live.a", b"1")

        assert await first.next(5) == await second.next(5) == ("live.a", b"1")
        await first.close()
        await bus.announce("live.a", b"2")
        assert await second.next(5) == ("live.a", b"2")
        await second.close()

    async def test_closing_a_subscription_ends_its_iteration(self, bus: Bus) -> None:
        subscription = await bus.subscribe("live.a")
        iterating = asyncio.ensure_future(anext(aiter(subscription)))
        await asyncio.sleep(0)

        await subscription.close()

        with pytest.raises(StopAsyncIteration):
            await iterating

    async def test_a_slow_subscriber_gets_missed(self, bus: Bus) -> None:
        subscription = await bus.subscribe("live.a")
        probe = await bus.subscribe("live.a")
        for number in range(5000):
            await bus.announce("live.a", b"%d" % number)
            if number % 100 == 99:
                while (announcement := await probe.next(5)) is not None and announcement[1] != b"%d" % number:
                    pass

        announcement = await subscription.next(5)

        assert announcement is MISSED

    async def test_next_returns_none_after_its_timeout(self, bus: Bus) -> None:
        subscription = await bus.subscribe("live.a")

        assert await subscription.next(0.05) is None


class TestBucket:
    async def test_get_returns_the_last_put(self, bus: Bus) -> None:
        bucket = await bus.bucket("keys")

        await bucket.put("a", b"1")
        await bucket.put("a", b"2")

        assert await bucket.get("a") == b"2"
        assert await bucket.get("b") is None

    async def test_create_of_an_existing_key_raises(self, bus: Bus) -> None:
        bucket = await bus.bucket("keys")
        await bucket.create("a", b"1")

        with pytest.raises(KeyExists):
            await bucket.create("a", b"2")

        assert await bucket.get("a") == b"1"

    async def test_a_deleted_key_is_gone_and_can_be_created_again(self, bus: Bus) -> None:
        bucket = await bus.bucket("keys")
        await bucket.put("a", b"1")

        await bucket.delete("a")

        assert await bucket.get("a") is None
        assert await bucket.keys() == []
        await bucket.create("a", b"2")
        assert await bucket.get("a") == b"2"

    async def test_keys_are_sorted(self, bus: Bus) -> None:
        bucket = await bus.bucket("flows")
        for key in ("default.b.1", "default.a.2", "default.a.1"):
            await bucket.put(key, b"x")

        assert await bucket.keys() == ["default.a.1", "default.a.2", "default.b.1"]

    async def test_a_watched_bucket_is_complete_and_stays_current(self, bus: Bus, until: Until) -> None:
        bucket = await bus.bucket("keys")
        await bucket.put("old", b"1")
        await bucket.put("gone", b"1")
        watched = await bucket.watch()
        assert dict(watched) == {"old": b"1", "gone": b"1"}

        await bucket.put("new", b"2")
        await bucket.delete("gone")

        await until(lambda: dict(watched) == {"old": b"1", "new": b"2"})
        await watched.close()

    async def test_an_empty_bucket_can_be_watched(self, bus: Bus) -> None:
        watched = await (await bus.bucket("keys")).watch()

        assert len(watched) == 0
        await watched.close()


class TestDefinitions:
    async def test_ensure_verify_and_ready_agree(self, bus: Bus) -> None:
        await bus.ensure()
        await bus.verify()
        await bus.ready()
