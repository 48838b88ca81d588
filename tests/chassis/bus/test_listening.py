"""Listening over a network that breaks."""

import asyncio
from typing import Any

from antiphon.chassis.bus import MISSED, Bus
from antiphon.chassis.bus.nats_bus import NatsBus
from antiphon.cli.stack.nats import NatsServer


async def test_a_reconnect_is_a_gap(bus: Bus, far_bus: Bus, network: Any) -> None:
    listening = await far_bus.subscribe("live.>")
    network.cut()

    assert await listening.next(10) is MISSED
    assert listening.dropped
    await bus.announce("live.a", b"1")
    assert await listening.next(5) == ("live.a", b"1")


async def test_a_thousand_listeners_of_one_subject_share_a_subscription(bus: Bus) -> None:
    assert isinstance(bus, NatsBus)
    before = len(bus.connection.client._subs)

    listenings = await asyncio.gather(*(bus.subscribe("live.a") for _ in range(1000)))

    assert len(bus.connection.client._subs) == before + 1
    await bus.announce("live.a", b"1")
    assert {await listening.next(5) for listening in listenings} == {("live.a", b"1")}
    for listening in listenings:
        await listening.close()
    await bus.ready()
    assert len(bus.connection.client._subs) == before


async def test_announcing_to_a_broker_that_is_away_raises_nothing(nats_server: NatsServer, bus: Bus) -> None:
    nats_server.stop()

    for _ in range(3):
        await bus.announce("live.a", b"1")
