"""Watching a bucket over a broker that restarts."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.cli.stack.nats import NatsServer

Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_a_watched_bucket_follows_over_a_killed_broker(
    nats_server: NatsServer, bus: Bus, until: Until
) -> None:
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"1")
    watched = await bucket.watch()

    nats_server.kill()
    nats_server.start()
    assert watched["a"] == b"1"
    await bucket.put("b", b"2")

    await until(lambda: dict(watched) == {"a": b"1", "b": b"2"})
    await watched.close()


async def test_a_change_made_while_the_watcher_was_cut_off_arrives(
    bus: Bus, far_bus: Bus, network: Any, until: Until
) -> None:
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"1")
    watched = await (await far_bus.bucket("keys")).watch()

    network.swallow_answers = True
    await bucket.delete("a")
    await bucket.put("b", b"2")
    network.swallow_answers = False
    network.cut()

    await until(lambda: dict(watched) == {"b": b"2"})
    await watched.close()


async def test_many_keys_are_all_there(bus: Bus) -> None:
    bucket = await bus.bucket("flows")
    for number in range(600):
        await bucket.put(f"default.f.{number}", b"%d" % number)

    watched = await bucket.watch()

    assert watched == {f"default.f.{number}": b"%d" % number for number in range(600)}
    assert len(await bucket.keys()) == 600
    await watched.close()


async def test_a_bucket_that_does_not_exist_cannot_be_watched(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.chassis.bus.watch.CONNECT_DEADLINE_SECONDS", 0.3)
    bucket = await bus.bucket("nowhere")

    with pytest.raises(BusUnavailable, match="KV_nowhere"):
        await bucket.watch()
