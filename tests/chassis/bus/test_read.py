"""Reading history: what the broker leaves out is asked for again, and never passed over."""

from collections.abc import Callable
from typing import Any

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable, HistoryGap, Outgoing, read
from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.contracts.subjects import session_filter

EVENTS = session_filter("default", "ses_00000000000000000000000001")

MessageOf = Callable[..., Outgoing]


async def everything(bus: Bus) -> list[bytes]:
    return [incoming.payload async for incoming in bus.read(EVENTS)]


def losing(bus: NatsBus, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Lose the fourth message of an answer, so many times."""
    route = bus.connection.inbox.route
    left = times

    def lossy_route(handler: Callable[[Message], None]) -> str:
        seen = 0

        def lossy(msg: Message) -> None:
            nonlocal seen, left
            seen += 1
            if seen == 4 and left > 0:
                left -= 1
                return
            handler(msg)

        return route(lossy)

    monkeypatch.setattr(bus.connection.inbox, "route", lossy_route)


async def test_a_lost_message_is_read_again(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(bus, NatsBus)
    await bus.publish_many([message(number) for number in range(10)])
    losing(bus, monkeypatch, times=1)

    assert await everything(bus) == [b"%d" % number for number in range(10)]


async def test_a_loss_that_does_not_mend_is_an_error(
    bus: Bus, message: MessageOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(bus, NatsBus)
    await bus.publish_many([message(number) for number in range(10)])
    losing(bus, monkeypatch, times=100)

    with pytest.raises(HistoryGap):
        await everything(bus)


async def test_a_network_cut_while_reading_is_survived(
    bus: Bus, far_bus: Bus, network: Any, message: MessageOf
) -> None:
    await bus.publish_many([message(number) for number in range(1000)])
    received = []

    async for incoming in far_bus.read(EVENTS):
        received.append(incoming.payload)
        if len(received) == 500:
            network.cut()

    assert received == [b"%d" % number for number in range(1000)]


async def test_a_silent_broker_is_an_error(
    far_bus: Bus, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "READ_DEADLINE_SECONDS", 0.1)
    network.swallow_answers = True

    with pytest.raises(BusUnavailable):
        await everything(far_bus)
    network.swallow_answers = False
    network.cut()
