"""Reading history: after a skipped message, the batch is read again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable, HistoryGap, Incoming, Outgoing, read, stored
from antiphon.chassis.bus.client import Message
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import session_filter

EVENTS = session_filter("default", "ses_00000000000000000000000001")

MessageOf = Callable[..., Outgoing]


async def read_all(bus: Bus) -> list[bytes]:
    return [incoming.payload async for incoming in bus.read(EVENTS)]


def drop_messages(bus: Bus, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Drop the fourth message of the next answers."""
    add = bus.connection.inbox.add
    left = times

    def lossy_add(handler: Callable[[Message], None], done: asyncio.Future[Any], asked: str) -> str:
        seen = 0

        def lossy(msg: Message) -> None:
            nonlocal seen, left
            seen += 1
            if seen == 4 and left > 0:
                left -= 1
                return
            handler(msg)

        return add(lossy, done, asked)

    monkeypatch.setattr(bus.connection.inbox, "add", lossy_add)


async def test_a_lost_message_is_read_again(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish_many([message(number) for number in range(10)])
    drop_messages(bus, monkeypatch, times=1)

    assert await read_all(bus) == [b"%d" % number for number in range(10)]


async def test_a_permanent_loss_raises(bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    await bus.publish_many([message(number) for number in range(10)])
    drop_messages(bus, monkeypatch, times=100)

    with pytest.raises(HistoryGap):
        await read_all(bus)


async def test_reading_survives_a_connection_loss(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    await bus.publish_many([message(number) for number in range(1000)])
    received = []

    async for incoming in far_bus.read(EVENTS):
        received.append(incoming.payload)
        if len(received) == 500:
            network.cut()

    assert received == [b"%d" % number for number in range(1000)]


async def test_a_broker_that_does_not_answer_raises(
    far_bus: Bus, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "READ_DEADLINE_SECONDS", 0.1)
    network.drop_answers = True

    with pytest.raises(BusUnavailable):
        await read_all(far_bus)
    network.drop_answers = False
    network.cut()


async def test_large_messages_are_read_in_batches_bounded_in_bytes(bus: Bus, message: MessageOf) -> None:
    for first in range(0, 100, 10):
        await bus.publish_many([message(number, size=100_000) for number in range(first, first + 10)])

    async with asyncio.timeout(60):
        assert [payload.strip() for payload in await read_all(bus)] == [b"%d" % n for n in range(100)]
    request = {"seq": 1, "next_by_subj": EVENTS, "batch": 500, "max_bytes": read.BATCH_BYTES}
    batch, more = await read._read_batch(bus.connection, SESSIONS.name, request)
    assert sum(len(incoming.payload) for incoming in batch) <= read.BATCH_BYTES + 100_000
    assert more


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct gets are answered by a replica that has the first 7 messages, and does not know of others."""
    read_batch = read._read_batch

    async def stale(*arguments: Any) -> tuple[list[Incoming], bool]:
        batch, _ = await read_batch(*arguments)
        return [incoming for incoming in batch if incoming.position <= 7], False

    monkeypatch.setattr(read, "_read_batch", stale)


@pytest.mark.usefixtures("behind")
async def test_a_read_ends_where_the_leader_does(bus: Bus, message: MessageOf) -> None:
    await bus.publish_many([message(number) for number in range(10)])

    assert await read_all(bus) == [b"%d" % number for number in range(10)]


@pytest.mark.usefixtures("behind")
async def test_all_messages_are_those_of_the_leader(bus: Bus, message: MessageOf) -> None:
    await bus.publish_many([message(number) for number in range(100)])
    await bus.connection.api("STREAM.PURGE.SESSIONS", {"seq": 11})

    found = [incoming async for incoming in bus.all_messages()]
    assert [incoming.payload for incoming in found] == [b"%d" % number for number in range(10, 100)]
    assert [incoming.position for incoming in found] == list(range(11, 101))
    newest = await bus.last(EVENTS)
    assert newest is not None
    assert dict(newest.headers or {}) == dict(found[-1].headers or {})
    assert (newest.subject, newest.payload, newest.position, newest.published_at) == (
        found[-1].subject,
        b"99",
        100,
        found[-1].published_at,
    )


async def test_all_messages_end_with_an_error_if_one_is_missing(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish_many([message(number) for number in range(10)])
    message_at = stored.message_at

    async def lossy(connection: Any, stream: str, request: dict[str, Any]) -> Incoming | None:
        return None if request["seq"] == 4 else await message_at(connection, stream, request)

    monkeypatch.setattr(stored, "message_at", lossy)
    with pytest.raises(HistoryGap, match="SESSIONS has 10 messages"):
        _ = [incoming async for incoming in bus.all_messages()]
