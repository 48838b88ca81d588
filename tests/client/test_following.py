import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.events import SESSION, event, sse

from antiphon.client.calls import Reply
from antiphon.client.errors import (
    ApiError,
    ConnectionFailed,
    NotFound,
    ServerUnavailable,
    StreamBroken,
    UnreadableResponse,
)
from antiphon.client.following import CONFIRM_SECONDS, TAIL_SECONDS, Following
from antiphon.client.reconnecting import GIVE_UP_SECONDS

OPEN = Reply(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def following(clock: Clock) -> Following:
    return Following(SESSION, 0, clock)


def connect(following: Following, *chunks: bytes) -> list[int]:
    """Open a connection and return the sequences that its chunks give."""
    assert following.opened(OPEN)
    return [event.sequence for chunk in chunks for event in following.received(chunk)]


def asked(following: Following) -> str:
    return following.call().headers["Last-Event-ID"]


def test_a_broken_stream_resumes_after_the_last_event(following: Following) -> None:
    assert asked(following) == "0"
    assert connect(following, sse(1, 2)) == [1, 2]
    following.broke(ConnectionFailed("cut"))

    assert asked(following) == "2"
    assert connect(following, sse(3)) == [3]


def test_an_event_that_was_cut_is_received_again(following: Following) -> None:
    assert connect(following, sse(1) + sse(2)[:-1]) == [1]
    following.broke(ConnectionFailed("cut"))

    assert asked(following) == "1"
    assert connect(following, sse(2)) == [2]


def test_a_repeated_event_is_not_yielded_twice(following: Following) -> None:
    assert connect(following, sse(1, 2, 2, 1, 3)) == [1, 2, 3]


def test_a_gap_is_read_again(following: Following) -> None:
    assert connect(following, sse(1, 3)) == [1]
    assert not following.reading
    assert asked(following) == "1"
    assert connect(following, sse(2, 3)) == [2, 3]


@pytest.mark.parametrize("damage", [sse(3), b"data: {}\n\n", b"data: <p>\n\n", b"x" * (17 << 20)])
def test_damage_that_stays_raises_and_says_where(following: Following, damage: bytes) -> None:
    connect(following, sse(1))
    for _ in range(2):
        following.received(damage)
        assert connect(following) == []

    with pytest.raises(StreamBroken, match="after event 1") as broken:
        following.received(damage)
    assert broken.value.after == 1


def test_204_is_the_end(following: Following) -> None:
    assert not following.opened(Reply(204, {}, b""))
    assert following.ended


def test_after_the_terminal_event_the_rest_is_asked_for(following: Following) -> None:
    connect(following, sse(1, 2, 3, last=2))
    following.closed()  # the session's end, or that of the server: the next connection tells

    assert not following.ended
    assert following.pause() == 0.0
    assert asked(following) == "3"
    assert connect(following, sse(4)) == [4]
    following.closed()
    assert not following.ended
    assert not following.opened(Reply(204, {}, b""))
    assert following.ended


def test_events_after_the_terminal_one_come_however_often_the_server_ends_the_stream(
    following: Following, clock: Clock
) -> None:
    connect(following, sse(1, 2, last=2))
    following.closed()
    for sequence in range(3, 9):
        assert connect(following) == []
        following.closed()
        assert not following.ended
        assert following.pause() >= 1.0
        clock.now += CONFIRM_SECONDS / 2
        assert connect(following, sse(sequence)) == [sequence]
        following.closed()
        assert not following.ended


def test_an_empty_stream_is_the_end_once_nothing_can_follow(following: Following, clock: Clock) -> None:
    connect(following, sse(1, last=1))
    following.closed()
    clock.now = CONFIRM_SECONDS + 1
    connect(following)
    following.closed()

    assert following.ended


def test_a_reader_that_is_slow_after_the_terminal_event_gets_the_rest(
    following: Following, clock: Clock
) -> None:
    connect(following, sse(1, last=1))
    for sequence in (2, 3, 4):
        clock.now += TAIL_SECONDS + 1
        assert [one.sequence for one in following.received(sse(sequence))] == [sequence]
        assert following.reading


def test_streams_that_end_with_nothing_are_failures(following: Following, clock: Clock) -> None:
    pauses = []
    for _ in range(12):
        connect(following, b"retry: 20\n\n")
        following.closed()
        pauses.append(following.pause())
    assert pauses[-1] >= 7.5

    clock.now = GIVE_UP_SECONDS + 1
    connect(following)
    following.closed()
    with pytest.raises(ConnectionFailed, match="without an event"):
        following.pause()


def test_a_stream_that_ends_after_a_comment_is_none(following: Following, clock: Clock) -> None:
    for _ in range(3):
        clock.now += GIVE_UP_SECONDS
        connect(following, b": keep-alive\n\n")
        following.closed()
        assert following.pause() <= 1.5


def test_the_end_of_a_server_is_not_that_of_the_session(following: Following) -> None:
    connect(following, sse(1))
    following.closed()

    assert not following.ended
    assert following.pause() >= 1.0


def test_a_stream_that_stays_open_after_the_terminal_event_ends(following: Following, clock: Clock) -> None:
    connect(following, sse(1, last=1))
    clock.now = TAIL_SECONDS - 1
    following.received(b": keep-alive\n\n")
    assert following.reading

    clock.now = TAIL_SECONDS + 1
    following.received(b": keep-alive\n\n")
    assert following.ended


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 307])
def test_a_refusal_raises(following: Following, status: int) -> None:
    reply = Reply(status, {}, b"")
    assert not following.opened(reply)

    with pytest.raises(ApiError):
        following.refused(reply)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_outage_is_waited_for(following: Following, status: int) -> None:
    following.refused(Reply(status, {"retry-after": "7"}, b""))

    assert not following.ended
    assert following.pause() >= 7.0


def test_a_page_that_is_no_stream_raises(following: Following) -> None:
    with pytest.raises(UnreadableResponse, match="event stream"):
        following.opened(Reply(200, {"content-type": "text/html"}, b""))


def test_retry_of_the_server_is_honoured_and_bounded(following: Following) -> None:
    connect(following, b"retry: 3000\n\n")
    following.closed()
    assert 3.0 <= following.pause() <= 4.5

    connect(following, b"retry: 999999999\n\n")
    following.closed()
    assert following.pause() <= 90.0


def test_pauses_grow_and_have_jitter(following: Following) -> None:
    pauses = []
    for _ in range(12):
        following.broke(ConnectionFailed("refused"))
        pauses.append(following.pause())

    assert 1.0 <= pauses[0] <= 1.5
    assert 7.5 <= pauses[-1] <= 15.0
    assert len(set(pauses)) == len(pauses)


def test_failures_without_end_raise_the_last_one(following: Following, clock: Clock) -> None:
    following.broke(ConnectionFailed("refused"))
    clock.now = GIVE_UP_SECONDS + 1
    following.refused(Reply(503, {}, b""))

    with pytest.raises(ServerUnavailable):
        following.pause()


def test_a_heartbeat_ends_a_row_of_failures(following: Following, clock: Clock) -> None:
    following.broke(ConnectionFailed("refused"))
    clock.now = GIVE_UP_SECONDS + 1
    connect(following, b": keep-alive\n\n")
    following.broke(ConnectionFailed("cut"))

    assert following.pause() <= 1.5


def test_unknown_events_are_yielded(following: Following) -> None:
    assert following.opened(OPEN)
    raw = json.dumps({**event(1, "moon.rose", phase=1), "moons": 2}).encode()

    [unknown] = following.received(b"data: " + raw + b"\n\n")

    assert unknown.type == "moon.rose"
    assert unknown.body is None
    assert unknown.data == {"phase": 1}


def test_a_stream_of_an_unknown_session_raises_not_found(following: Following) -> None:
    with pytest.raises(NotFound):
        following.refused(Reply(404, {}, b'{"title": "Unknown session"}'))


def served(after: int, count: int, cut: int) -> bytes:
    """Return what a server sends after a sequence, cut after some bytes."""
    whole = b"retry: 0\n\n" + sse(*range(after + 1, count + 1), last=count - 1)
    return whole[:cut]


def split(raw: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    start = 0
    for size in sizes:
        yield raw[start : start + size]
        start += size
    yield raw[start:]


@given(
    count=st.integers(2, 12),
    cuts=st.lists(st.integers(0, 3_000), max_size=12),
    sizes=st.lists(st.integers(0, 700), max_size=8),
)
def test_each_event_comes_once_and_in_order_however_it_is_cut(
    count: int, cuts: list[int], sizes: list[int]
) -> None:
    following = Following(SESSION, 0, lambda: 0.0)
    seen: list[int] = []
    for cut in [*cuts, 1 << 20, 1 << 20]:
        after = int(asked(following))
        if after == count:
            following.opened(Reply(204, {}, b""))
            break
        raw = served(after, count, cut)
        seen += connect(following, *split(raw, sizes))
        if len(raw) == cut:
            following.broke(ConnectionFailed("cut"))
        else:
            following.closed()

    assert seen == list(range(1, count + 1))
