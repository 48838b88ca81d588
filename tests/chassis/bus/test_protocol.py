"""Lines of the protocol: subjects are checked before they are sent, and damaged lines are errors."""

import asyncio
from typing import Any

import pytest
from nats.errors import ProtocolError

from antiphon.chassis.bus import Bus, InvalidSubject, Outgoing, protocol
from antiphon.chassis.bus.protocol import Parser

WRONG = [
    "",
    " ",
    "a b",
    "a\tb",
    "a\r\nPUB x 0\r\n\r\n",
    "a..b",
    ".a",
    "a.",
    "a\udcff",
    "x" * 2049,
    "é" * 1025,
]


@pytest.mark.parametrize("subject", WRONG)
async def test_a_wrong_subject_is_refused_before_it_is_sent(bus: Bus, subject: str) -> None:
    """The server would end the connection, and with it the subscriptions of everyone in this process."""
    client = bus.connection.client
    subscription = await bus.subscribe("live.a")

    for refused in (
        bus.publish(Outgoing(subject, b"", "id-1")),
        bus.publish_many([Outgoing("sessions.1.a.b.c", b"", ""), Outgoing(subject, b"", "")]),
        bus.announce(subject, b""),
        bus.subscribe(subject),
        bus.connection.request(subject),
    ):
        with pytest.raises(InvalidSubject):
            await refused

    await bus.announce("live.a", b"alive")
    assert await subscription.next(30) == ("live.a", b"alive")
    assert bus.connection.client is client
    assert client.stats["reconnects"] == 0


@pytest.mark.parametrize("subject", ["a.>.b", ">.a"])
async def test_a_wrong_filter_is_refused(bus: Bus, subject: str) -> None:
    with pytest.raises(InvalidSubject):
        await bus.subscribe(subject)
    await bus.ready()


class Received:
    """What a parser tells its client."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []
        self.others: list[Any] = []

    async def _process_msg(self, *message: Any) -> None:
        self.messages.append(message)

    async def _process_ping(self) -> None:
        self.others.append("ping")

    async def _process_pong(self) -> None:
        self.others.append("pong")

    async def _process_err(self, text: str) -> None:
        self.others.append(text)

    async def _process_info(self, info: Any) -> None:
        self.others.append(info)


EVERYTHING = (
    b"MSG a.\xff 1 3\r\n1\r\n\r\nHMSG b\x0b 2 _R.1 14 15\r\nNATS/1.0\r\n\r\n\r\n2\r\nPING\r\nPONG\r\n+OK\r\n"
    b"-ERR 'Permissions Violation \xff'\r\nINFO {\"port\":1}\r\nMSG c 3 0\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_pieces_of_any_size_are_parsed(size: int) -> None:
    received = Received()
    parser = Parser(received)

    for start in range(0, len(EVERYTHING), size):
        await parser.parse(EVERYTHING[start : start + size])

    assert received.messages == [
        (1, b"a.\xff", b"", b"1\r\n", b""),
        (2, b"b\x0b", b"_R.1", b"2", b"NATS/1.0\r\n\r\n\r\n"),
        (3, b"c", b"", b"", b""),
    ]
    assert received.others == ["ping", "pong", "'Permissions Violation \ufffd'", {"port": 1}]


@pytest.mark.parametrize(
    "line", [b"MSG a 1\r\n", b"MSG a b 1\r\n", b"HMSG a 1 x 2\r\n", b"HELLO\r\n", b"INFO {\r\n", b"\r\n"]
)
async def test_a_damaged_line_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Parser(Received()).parse(line)


async def test_a_line_without_an_end_is_a_protocol_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LONGEST_LINE", 100)
    with pytest.raises(ProtocolError):
        await Parser(Received()).parse(b"x" * 101)


async def test_a_failing_callback_does_not_stop_the_others(bus: Bus) -> None:
    called = asyncio.Event()

    def fail() -> None:
        raise ValueError("a callback")

    for callback in (fail, called.set, fail):
        bus.connection.on_reconnect(callback)
    await bus.connection.client.force_reconnect()

    async with asyncio.timeout(60):
        await called.wait()
    await bus.ready(timeout_seconds=30)
