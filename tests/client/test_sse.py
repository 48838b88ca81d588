from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.client.sse import EventStreamParser, Message, TooLong

LINES = st.sampled_from(
    [
        "",
        ": keep-alive",
        "data: one",
        "data:two",
        "data:  three",
        "data",
        "data: \u2028 \u0085 é",
        "event: turn.saved",
        "id: 17",
        "id: a\0b",
        "retry: 250",
        "retry: soon",
        "unknown: field",
        "nothing",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"])), max_size=40)


def expected(lines: list[str]) -> list[Message]:
    """Return the messages of complete lines, by the words of the standard."""
    messages, data, event, last_id = [], list[str](), "", ""
    for line in lines:
        if not line:
            if data:
                messages.append(Message(last_id, event or "message", "\n".join(data).encode()))
            data, event = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return messages


def merged(stream: list[tuple[str, str]]) -> list[str]:
    """Return the lines of a stream; a CR before a line that is empty and ends in LF is one end, CRLF."""
    lines: list[str] = []
    after_cr = False
    for line, end in stream:
        if not (after_cr and line == "" and end == "\n"):
            lines.append(line)
        after_cr = end == "\r"
    return lines


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 600), max_size=20), bom=st.booleans())
def test_any_chunks_give_the_same_messages(stream: list[tuple[str, str]], cuts: list[int], bom: bool) -> None:
    text = "".join(line + end for line, end in stream)
    raw = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    parser = EventStreamParser()

    found = [message for start, end in pairwise(places) for message in parser.feed(raw[start:end])]

    assert found == expected(merged(stream))


@given(stream=STREAMS)
def test_byte_by_byte_is_like_at_once(stream: list[tuple[str, str]]) -> None:
    raw = "".join(line + end for line, end in stream).encode()
    whole, single = EventStreamParser(), EventStreamParser()

    assert list(whole.feed(raw)) == [m for byte in raw for m in single.feed(bytes([byte]))]
    assert whole.comments == single.comments
    assert whole.retry_seconds == single.retry_seconds


def test_a_message_that_is_not_complete_is_not_yielded() -> None:
    assert list(EventStreamParser().feed(b"data: half\n")) == []


def test_retry_and_heartbeats_are_noted() -> None:
    parser = EventStreamParser()

    assert list(parser.feed(b"retry: 1500\n\n: keep-alive\n\n")) == []
    assert (parser.retry_seconds, parser.comments) == (1.5, 1)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_line_without_end_is_refused(size: int) -> None:
    parser = EventStreamParser(max_bytes=64)

    chunks = [b"x" * size] * (100 // size)
    with pytest.raises(TooLong, match="longer than 64 bytes"):
        list(chain.from_iterable(map(parser.feed, chunks)))


def test_an_event_of_many_lines_is_bounded() -> None:
    parser = EventStreamParser(max_bytes=64)

    with pytest.raises(TooLong, match="event"):
        list(chain.from_iterable(map(parser.feed, [b"data: x\n"] * 100)))


def test_a_line_at_the_limit_is_read() -> None:
    line = b"data: " + b"x" * 58

    assert [len(m.data) for m in EventStreamParser(max_bytes=64).feed(line + b"\n\n")] == [58]
