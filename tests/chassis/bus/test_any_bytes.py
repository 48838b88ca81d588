"""Whatever bytes a message holds, every reader gets it, and the shared connection lives on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.raw_nats import RawPublisher, header_blocks, tokens

from antiphon.chassis.bus import Bus, Incoming, Puller
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import ingest_consumer

EXAMPLES = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RAW_SUBJECTS = [b"\xff\xfe", b"\x00", b"a\x0bb", b"\x0c", b"\xed\xa0\x80", "\u2003é".encode(), b"\x1b[31m"]
RAW_HEADERS = [b"x", b"NATS/1.", b"NATS/1.0", b"NATS/1.0 ", b"NATS/1.0 404\r\n\r\n", b"\xff" * 12, b"\x00"]

messages = st.lists(st.tuples(tokens, header_blocks, st.binary(max_size=200)), min_size=1, max_size=20)


@pytest.fixture
def raw(nats_server: NatsServer, bus: Bus) -> Iterator[RawPublisher]:
    publisher = RawPublisher(nats_server.port)
    yield publisher
    publisher.close()


@pytest.fixture
async def reader(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Bus]:
    """A connection of its own; it must never reconnect."""
    reader = await Bus.connect(nats_server.url, name="reader")
    yield reader
    await reader.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


async def _never_reconnected(bus: Bus, client: object) -> None:
    await bus.ready()
    assert bus.connection.client is client
    assert bus.connection.client.stats["reconnects"] == 0


@pytest.mark.parametrize("token", RAW_SUBJECTS)
async def test_a_subject_may_have_any_bytes(token: bytes, raw: RawPublisher, reader: Bus) -> None:
    client = reader.connection.client
    subscription = await reader.subscribe("live.>")

    raw.publish(b"live." + token, b"1")
    raw.publish(b"live.a", b"2")

    assert await subscription.next(30) == (_text(b"live." + token), b"1")
    assert await subscription.next(30) == ("live.a", b"2")
    await _never_reconnected(reader, client)


@pytest.mark.parametrize("headers", RAW_HEADERS)
async def test_a_header_block_may_have_any_bytes(headers: bytes, raw: RawPublisher, reader: Bus) -> None:
    raw.publish(b"sessions.3.a.b.c", b"1", headers)
    raw.publish(b"sessions.3.a.b.c", b"2")

    async with reader.pull(ingest_consumer(3)) as puller:
        pulled = await _pull(puller, 2)
    read = [incoming async for incoming in reader.read("sessions.3.>")]

    assert [incoming.payload for incoming in pulled] == [b"1", b"2"]
    assert [incoming.payload for incoming in read] == [b"1", b"2"]
    for incoming in (*pulled, *read):
        assert dict(incoming.headers or {}) is not None
    last = await reader.last("sessions.3.>")
    assert last is not None
    assert last.payload == b"2"


@EXAMPLES
@given(batch=messages)
async def test_every_reader_gets_every_message(
    batch: list[tuple[bytes, bytes | None, bytes]], raw: RawPublisher, reader: Bus
) -> None:
    client = reader.connection.client
    start = await reader.last("sessions.7.>")
    after = start.position if start is not None else 0
    for token, headers, payload in batch:
        raw.publish(b"sessions.7." + token, payload, headers)
    expected = [(_text(b"sessions.7." + token), payload) for token, _, payload in batch]

    await reader.reset_consumer(ingest_consumer(7), after + 1)
    async with reader.pull(ingest_consumer(7)) as puller:
        pulled = await _pull(puller, len(batch))
        await puller.ack_through(pulled[-1])
    read = [incoming async for incoming in reader.read("sessions.7.>", after)]

    assert [(incoming.subject, incoming.payload) for incoming in pulled] == expected
    assert [(incoming.subject, incoming.payload) for incoming in read] == expected
    assert [incoming.position for incoming in read] == [incoming.position for incoming in pulled]
    await _never_reconnected(reader, client)


@EXAMPLES
@given(batch=messages)
async def test_a_watched_bucket_takes_any_message(
    batch: list[tuple[bytes, bytes | None, bytes]], raw: RawPublisher, reader: Bus, bus: Bus
) -> None:
    client = reader.connection.client
    bucket = await reader.bucket("keys")
    watched = await bucket.watch()
    try:
        for token, headers, payload in batch:
            raw.publish(b"$KV.keys." + token, payload, headers)
        await (await bus.bucket("keys")).put("last", batch[0][2])

        async with asyncio.timeout(60):
            while watched.get("last") != batch[0][2]:  # noqa: ASYNC110 - a mapping has no event
                await asyncio.sleep(0.01)

        assert set(await bucket.keys()) == set(watched)
        await _never_reconnected(reader, client)
    finally:
        await watched.close()
        await (await bus.bucket("keys")).delete("last")


async def _pull(puller: Puller, count: int) -> list[Incoming]:
    pulled: list[Incoming] = []
    async with asyncio.timeout(60):
        while len(pulled) < count:
            pulled += await puller.next()
    return pulled
