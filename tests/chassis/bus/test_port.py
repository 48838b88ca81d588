"""One suite for every bus: what holds over NATS holds in memory."""

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
    async def test_positions_rise_by_one(self, any_bus: Bus, message: MessageOf) -> None:
        acks = [await any_bus.publish(message(number)) for number in (1, 2, 3)]

        assert [ack.position for ack in acks] == [1, 2, 3]
        assert not any(ack.duplicate for ack in acks)

    async def test_the_same_id_is_stored_once(self, any_bus: Bus, message: MessageOf) -> None:
        first = await any_bus.publish(message(1))

        again = await any_bus.publish(message(1))

        assert again.duplicate
        assert again.position == first.position
        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"1"]

    async def test_headers_and_message_id_travel(self, any_bus: Bus) -> None:
        subject = event_subject("default", SESSION, "turn")
        await any_bus.publish(Outgoing(subject, b"x", "id-1", {"traceparent": "00-aa-bb-01"}))

        stored = await any_bus.last(subject)

        assert stored is not None
        assert stored.headers is not None
        assert stored.headers["traceparent"] == "00-aa-bb-01"
        assert stored.headers["Nats-Msg-Id"] == "id-1"
        assert stored.published_at is not None

    async def test_a_subject_expected_empty_takes_the_first_message(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        ack = await any_bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)

        assert not ack.duplicate

    async def test_a_subject_expected_empty_knows_our_own_message(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        first = await any_bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)
        await publish(any_bus, message, 2)

        again = await any_bus.publish(message(1), expect_empty=EVENTS_OF_SESSION)

        assert again.duplicate
        assert again.position == first.position

    async def test_a_subject_expected_empty_refuses_another_message(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        await publish(any_bus, message, 1)

        with pytest.raises(SubjectNotEmpty):
            await any_bus.publish(message(2), expect_empty=EVENTS_OF_SESSION)

        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"1"]

    async def test_one_of_many_racers_finds_the_subject_empty(self, any_bus: Bus, message: MessageOf) -> None:
        results = await asyncio.gather(
            *(any_bus.publish(message(number), expect_empty=EVENTS_OF_SESSION) for number in range(10)),
            return_exceptions=True,
        )

        assert sum(isinstance(result, SubjectNotEmpty) for result in results) == 9
        assert len(await payloads(any_bus, EVENTS_OF_SESSION)) == 1

    async def test_too_large_a_payload_is_refused_at_once(self, any_bus: Bus, message: MessageOf) -> None:
        with pytest.raises(PayloadTooLarge):
            await any_bus.publish(message(1, size=2 << 20))

    async def test_an_event_without_a_family_of_ours_needs_a_stream(self, any_bus: Bus) -> None:
        with pytest.raises(Exception, match=r"elsewhere\.1"):
            await any_bus.publish(Outgoing("elsewhere.1", b"x", "1"), timeout_seconds=0.3)


class TestPublishMany:
    async def test_positions_follow_the_order(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 0)

        acks = await any_bus.publish_many([message(number) for number in range(1, 6)])

        assert [ack.position for ack in acks] == [2, 3, 4, 5, 6]
        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"0", b"1", b"2", b"3", b"4", b"5"]

    async def test_a_duplicate_inside_is_told_apart(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 2)

        acks = await any_bus.publish_many([message(1), message(2), message(3)])

        assert [ack.duplicate for ack in acks] == [False, True, False]
        assert [ack.position for ack in acks] == [2, 1, 3]
        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"2", b"1", b"3"]

    async def test_none_and_one_are_fine(self, any_bus: Bus, message: MessageOf) -> None:
        assert await any_bus.publish_many([]) == []
        assert [ack.position for ack in await any_bus.publish_many([message(1)])] == [1]

    async def test_more_than_a_batch_takes_is_a_mistake(self, any_bus: Bus, message: MessageOf) -> None:
        with pytest.raises(ValueError, match="1000"):
            await any_bus.publish_many([message(number) for number in range(1001)])


class TestRead:
    async def test_a_filter_sees_its_own_session_only(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1)
        await any_bus.publish(message(7, session=OTHER))
        await publish(any_bus, message, 2)

        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"1", b"2"]

    async def test_reading_begins_after_a_position(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1, 2, 3)

        assert await payloads(any_bus, EVENTS_OF_SESSION, after=2) == [b"3"]

    async def test_nothing_there_reads_as_nothing(self, any_bus: Bus) -> None:
        assert await payloads(any_bus, EVENTS_OF_SESSION) == []
        assert await any_bus.last(EVENTS_OF_SESSION) is None

    async def test_more_than_one_batch_comes_whole_and_in_order(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        await any_bus.publish_many([message(number) for number in range(1000)])
        await any_bus.publish_many([message(number) for number in range(1000, 1700)])

        assert await payloads(any_bus, EVENTS_OF_SESSION) == [b"%d" % number for number in range(1700)]

    async def test_last_is_the_newest(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1, 2)

        newest = await any_bus.last(EVENTS_OF_SESSION)

        assert newest is not None
        assert (newest.payload, newest.position) == (b"2", 2)


class TestPull:
    async def test_messages_come_in_order_with_their_numbers(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1, 2, 3)

        async with any_bus.pull(CONSUMER) as puller:
            received: list[Incoming] = []
            while len(received) < 3:
                received += await puller.next()

        assert [incoming.payload for incoming in received] == [b"1", b"2", b"3"]
        assert [incoming.consumer_sequence for incoming in received] == [1, 2, 3]
        assert [incoming.position for incoming in received] == [1, 2, 3]

    async def test_a_batch_is_never_larger_than_asked(self, any_bus: Bus, message: MessageOf) -> None:
        await any_bus.publish_many([message(number) for number in range(100)])

        async with any_bus.pull(CONSUMER, batch=7) as puller:
            received: list[bytes] = []
            while len(received) < 100:
                batch = await puller.next()
                assert 1 <= len(batch) <= 7
                received += [incoming.payload for incoming in batch]
                await puller.ack_through(batch[-1])

        assert received == [b"%d" % number for number in range(100)]

    async def test_next_waits_for_what_is_published_later(self, any_bus: Bus, message: MessageOf) -> None:
        async with any_bus.pull(CONSUMER) as puller:
            waiting = asyncio.create_task(puller.next())
            await publish(any_bus, message, 1)

            assert [incoming.payload for incoming in await waiting] == [b"1"]

    async def test_what_was_acknowledged_does_not_come_again(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1)
        async with any_bus.pull(CONSUMER) as puller:
            await puller.ack_through((await puller.next())[-1])
        await publish(any_bus, message, 2)

        async with any_bus.pull(CONSUMER) as puller:
            assert [incoming.payload for incoming in await puller.next()] == [b"2"]

    async def test_a_consumer_with_open_deliveries_must_be_reset(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        await publish(any_bus, message, 1)
        async with any_bus.pull(CONSUMER) as puller:
            await puller.next()

        with pytest.raises(ConsumerGap):
            async with any_bus.pull(CONSUMER):
                pytest.fail("the puller opened")

    async def test_a_reset_delivers_again_from_the_position(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1, 2, 3)
        async with any_bus.pull(CONSUMER) as puller:
            await puller.ack_through((await puller.next())[-1])

        await any_bus.reset_consumer(CONSUMER, 2)

        async with any_bus.pull(CONSUMER) as puller:
            received: list[Incoming] = []
            while len(received) < 2:
                received += await puller.next()
        assert [incoming.payload for incoming in received] == [b"2", b"3"]
        assert [incoming.consumer_sequence for incoming in received] == [1, 2]

    async def test_a_reset_beyond_the_end_waits_there(self, any_bus: Bus, message: MessageOf) -> None:
        await publish(any_bus, message, 1, 2)
        await any_bus.reset_consumer(CONSUMER, 3)

        async with any_bus.pull(CONSUMER) as puller:
            await publish(any_bus, message, 3)

            assert [incoming.payload for incoming in await puller.next()] == [b"3"]

    async def test_a_reset_past_what_the_stream_ever_held_is_refused(
        self, any_bus: Bus, message: MessageOf
    ) -> None:
        """The stream must have been made anew: going on would skip what it holds now."""
        await publish(any_bus, message, 1)

        with pytest.raises(StreamReplaced):
            await any_bus.reset_consumer(CONSUMER, 3)


class TestAnnounce:
    async def test_listeners_hear_what_matches(self, any_bus: Bus) -> None:
        listening = await any_bus.subscribe("committed.3.>")

        await any_bus.announce("committed.4.default.other", b"no")
        await any_bus.announce("committed.3.default.one", b"yes")

        assert await listening.next(5) == ("committed.3.default.one", b"yes")
        assert not listening.dropped
        await listening.close()

    async def test_every_listener_of_a_subject_hears(self, any_bus: Bus) -> None:
        first, second = await any_bus.subscribe("live.a"), await any_bus.subscribe("live.a")

        await any_bus.announce("live.a", b"1")

        assert await first.next(5) == await second.next(5) == ("live.a", b"1")
        await first.close()
        await any_bus.announce("live.a", b"2")
        assert await second.next(5) == ("live.a", b"2")
        await second.close()

    async def test_a_closed_listening_ends(self, any_bus: Bus) -> None:
        listening = await any_bus.subscribe("live.a")
        iterating = asyncio.ensure_future(anext(aiter(listening)))
        await asyncio.sleep(0)

        await listening.close()

        with pytest.raises(StopAsyncIteration):
            await iterating

    async def test_a_slow_listener_is_told_of_its_gap(self, any_bus: Bus) -> None:
        listening = await any_bus.subscribe("live.a")
        probe = await any_bus.subscribe("live.a")
        for number in range(5000):
            await any_bus.announce("live.a", b"%d" % number)
            if number % 100 == 99:
                while (heard := await probe.next(5)) is not None and heard[1] != b"%d" % number:
                    pass

        heard = await listening.next(5)

        assert heard is MISSED
        assert listening.dropped

    async def test_silence_ends_a_wait(self, any_bus: Bus) -> None:
        listening = await any_bus.subscribe("live.a")

        assert await listening.next(0.05) is None


class TestBucket:
    async def test_what_is_put_is_got(self, any_bus: Bus) -> None:
        bucket = await any_bus.bucket("keys")

        await bucket.put("a", b"1")
        await bucket.put("a", b"2")

        assert await bucket.get("a") == b"2"
        assert await bucket.get("b") is None

    async def test_create_makes_a_key_once(self, any_bus: Bus) -> None:
        bucket = await any_bus.bucket("keys")
        await bucket.create("a", b"1")

        with pytest.raises(KeyExists):
            await bucket.create("a", b"2")

        assert await bucket.get("a") == b"1"

    async def test_a_deleted_key_is_gone_and_can_be_made_again(self, any_bus: Bus) -> None:
        bucket = await any_bus.bucket("keys")
        await bucket.put("a", b"1")

        await bucket.delete("a")

        assert await bucket.get("a") is None
        assert await bucket.keys() == []
        await bucket.create("a", b"2")
        assert await bucket.get("a") == b"2"

    async def test_keys_are_sorted(self, any_bus: Bus) -> None:
        bucket = await any_bus.bucket("flows")
        for key in ("default.b.1", "default.a.2", "default.a.1"):
            await bucket.put(key, b"x")

        assert await bucket.keys() == ["default.a.1", "default.a.2", "default.b.1"]

    async def test_a_watched_bucket_is_whole_and_stays_current(self, any_bus: Bus, until: Until) -> None:
        bucket = await any_bus.bucket("keys")
        await bucket.put("old", b"1")
        await bucket.put("gone", b"1")
        watched = await bucket.watch()
        assert dict(watched) == {"old": b"1", "gone": b"1"}

        await bucket.put("new", b"2")
        await bucket.delete("gone")

        await until(lambda: dict(watched) == {"old": b"1", "new": b"2"})
        await watched.close()

    async def test_an_empty_bucket_can_be_watched(self, any_bus: Bus) -> None:
        watched = await (await any_bus.bucket("keys")).watch()

        assert len(watched) == 0
        await watched.close()


class TestDefinitions:
    async def test_ensure_verify_and_ready_agree(self, any_bus: Bus) -> None:
        await any_bus.ensure()
        await any_bus.verify()
        await any_bus.ready()
