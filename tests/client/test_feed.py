"""The events of all sessions: pages and a stream that resumes, without I/O and on a running session-api."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from tests.client.conftest import Network
from tests.client.events import event
from tests.session_api.feed.conftest import (
    READY,
    TURN,
    LogWriter,
    assert_each_once_in_order,
    keys_of,
    writer,
)

from antiphon.client import Antiphon, AsyncAntiphon, InvalidArgument, InvalidRequest, StreamBroken
from antiphon.client.calls import Reply
from antiphon.client.errors import ConnectionFailed, UnreadableResponse
from antiphon.client.feed import FeedFollowing, FeedReading, events

__all__ = ["writer"]

OPEN = Reply(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")


def block(number: int) -> bytes:
    return b"id: c%d\ndata: %s\n\n" % (number, json.dumps(event(number)).encode())


def page_of(reading: FeedReading, following: str, *numbers: int, more: bool = True) -> Any:
    assert reading.call is not None
    body = {"items": [event(number) for number in numbers], "next": following, "more": more}
    return reading.call.parse(Reply(200, {}, msgspec.json.encode(body)))


def asked(reading: FeedReading) -> dict[str, str]:
    assert reading.call is not None
    return dict(reading.call.params)


def test_pages_go_on_from_their_cursors() -> None:
    reading = events(types=["a", "b"], since="2026-01-01T00:00:00Z", limit=5, page_size=3)
    assert reading.call is not None
    assert ("type", "a") in reading.call.params
    assert (asked(reading)["since"], asked(reading)["limit"]) == ("2026-01-01T00:00:00Z", "3")

    first = reading.take(page_of(reading, "c3", 1, 2, 3))
    assert [(next(first).sequence, reading.cursor) for _ in range(3)] == [(1, None), (2, None), (3, "c3")]
    assert (asked(reading)["after"], asked(reading)["limit"]) == ("c3", "2")
    assert "since" not in asked(reading)
    assert list(reading.take(page_of(reading, "c4"))) == []  # the filter left all of it out
    assert reading.cursor == "c4"
    *_, last = reading.take(page_of(reading, "c6", 5, 6))
    assert last.cursor == "c6"
    assert reading.call is None


def test_the_last_page_says_so_and_a_page_that_repeats_is_an_error() -> None:
    reading = events()
    assert len(list(reading.take(page_of(reading, "c1", 1, more=False)))) == 1
    assert reading.call is None

    reading = events(after="c1")
    list(reading.take(page_of(reading, "c1")))
    with pytest.raises(UnreadableResponse, match="same page twice"):
        list(reading.take(page_of(reading, "c1")))


def test_two_places_to_start_at_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="after or since"):
        events(after="now", since="2026-01-01T00:00:00Z")


def test_a_stream_resumes_after_the_last_event_that_was_yielded() -> None:
    following = FeedFollowing([("after", "now")], lambda: 0.0)
    assert "Last-Event-ID" not in following.call().headers
    assert following.opened(OPEN)
    assert list(following.received(b"retry: 1000\nid: c0\n\n")) == []
    assert following.cursor == "c0"
    received = following.received(block(1) + block(2) + b": keep-alive\nid: c9\n\n")
    one = next(received)
    assert (one.sequence, one.cursor, following.cursor) == (1, "c1", "c1")
    assert [left.sequence for left in received] == [2]
    assert following.cursor == "c9"
    following.broke(ConnectionFailed("cut"))
    assert following.call().headers["Last-Event-ID"] == "c9"


def test_a_block_that_was_cut_does_not_move_the_cursor() -> None:
    following = FeedFollowing([], lambda: 0.0)
    following.opened(OPEN)
    assert len(list(following.received(block(1) + block(2)[:-1]))) == 1
    assert following.cursor == "c1"


def test_damage_that_stays_raises() -> None:
    following = FeedFollowing([], lambda: 0.0)
    for _ in range(2):
        following.opened(OPEN)
        assert list(following.received(b"id: c1\ndata: {}\n\n")) == []
    following.opened(OPEN)
    with pytest.raises(StreamBroken):
        list(following.received(b"id: c1\ndata: {}\n\n"))
    assert following.cursor is None


async def test_pages_of_a_server(client: AsyncAntiphon, writer: LogWriter) -> None:
    ids = [writer.session(str(number)) for number in range(6)]
    await writer.commit_all([(one, READY) for _ in range(4) for one in ids])

    feed = client.events(page_size=5, limit=12)
    found = [one async for one in feed]
    rest = [one async for one in client.events(after=feed.cursor)]

    assert len(found) == 12
    assert_each_once_in_order([(e.session_id, e.sequence) for e in found + rest], keys_of(writer.log))
    with pytest.raises(InvalidRequest, match="did you mean turn"):
        await anext(client.events(types="turn.save"))


async def test_a_stream_through_a_network_that_breaks(
    client: AsyncAntiphon, network: Network, writer: LogWriter
) -> None:
    ids = [writer.session(str(number)) for number in range(6)]
    await writer.commit_all([(one, READY) for _ in range(4) for one in ids])
    network.answers = [900, 3_000, 2_222, 5_000]
    found = []
    async with asyncio.timeout(120), client.stream_events() as feed:
        async for one in feed:
            found.append((one.session_id, one.sequence))
            if len(found) == 20:
                await writer.commit_all([(one, TURN) for one in ids])
            if len(found) == 30:
                break

    assert_each_once_in_order(found, keys_of(writer.log))
    assert network.connections > 3


async def test_the_client_that_blocks(blocking: Any, network: Network, writer: LogWriter) -> None:
    one = writer.session("a")
    await writer.commit(one, READY, TURN)
    await writer.commit(writer.session("b"), READY)

    def read() -> tuple[list[int], list[str], str | None]:
        with Antiphon(network.url, "writer") as client:
            pages = [each.sequence for each in client.events(session_id=one)]
            with client.stream_events(types="turn.saved") as feed:
                return pages, [next(feed).type], feed.cursor

    pages, streamed, cursor = await asyncio.to_thread(read)
    assert (pages, streamed) == ([1, 2], ["turn.saved"])
    assert cursor
