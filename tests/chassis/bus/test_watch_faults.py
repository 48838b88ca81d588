"""A watched bucket tells the truth, or says that it may not: keys are revoked while its watcher is away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from antiphon.chassis.background import BackgroundTaskFailed
from antiphon.chassis.bus import Bus, BusUnavailable, WatchedBucket
from antiphon.chassis.bus.client import OnMessage
from antiphon.chassis.bus.connection import Connection, ServerSubscription
from antiphon.cli.stack.nats import NatsServer

SECONDS = 60.0


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - a mapping has no event
            await asyncio.sleep(0.02)


async def _is_ready(watched: WatchedBucket) -> bool:
    try:
        await watched.ready()
    except (BusUnavailable, BackgroundTaskFailed):
        return False
    return True


async def _until_ready(watched: WatchedBucket, expected: bool = True) -> None:
    async with asyncio.timeout(SECONDS):
        while await _is_ready(watched) is not expected:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


@pytest.fixture
async def watched(bus: Bus, far_bus: Bus) -> AsyncIterator[WatchedBucket]:
    """The keys, watched behind the proxy; one key of three will be revoked and another one changed."""
    keys = await bus.bucket("keys")
    for key in ("kept", "changed", "revoked"):
        await keys.put(key, b"1")
    watched = await (await far_bus.bucket("keys")).watch()
    assert dict(watched) == {"kept": b"1", "changed": b"1", "revoked": b"1"}
    await watched.ready()
    yield watched
    await watched.close()


async def _change(bus: Bus) -> None:
    keys = await bus.bucket("keys")
    await keys.delete("revoked")
    await keys.put("changed", b"2")


_subscribe = Connection.subscribe


async def _subscribe_elsewhere(
    connection: Connection, _: str, on_message: OnMessage, group: str = ""
) -> ServerSubscription:
    return await _subscribe(connection, "elsewhere", on_message, group)


TRUTH = {"kept": b"1", "changed": b"2"}


async def test_changes_during_a_broken_connection_arrive(
    bus: Bus, watched: WatchedBucket, network: Any
) -> None:
    network.drop_answers = True
    await _change(bus)
    network.cut()
    network.drop_answers = False

    await _until(lambda: dict(watched) == TRUTH)
    await _until_ready(watched)


async def test_changes_during_a_restart_of_the_server_arrive(
    bus: Bus, watched: WatchedBucket, network: Any, nats_server: NatsServer
) -> None:
    nats_server.kill()
    network.cut()
    nats_server.start()
    await _change(bus)

    await _until(lambda: dict(watched) == TRUTH)
    await _until_ready(watched)


async def test_a_change_that_was_not_heard_of_arrives(
    bus: Bus, watched: WatchedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "subscribe", _subscribe_elsewhere)
    unheard = await (await bus.bucket("keys")).watch()
    await _change(bus)

    await _until(lambda: dict(unheard) == TRUTH)
    await unheard.close()


async def test_a_bucket_that_was_made_again_replaces_all_keys(
    bus: Bus, watched: WatchedBucket, network: Any
) -> None:
    network.drop_answers = True
    await bus.connection.api("STREAM.DELETE.KV_keys")
    await bus.ensure()
    await (await bus.bucket("keys")).put("new", b"1")
    network.cut()
    network.drop_answers = False

    await _until(lambda: dict(watched) == {"new": b"1"})
    await _until_ready(watched)


async def test_a_resume_that_fails_again_and_again_makes_it_unready_until_it_is_true(
    bus: Bus, watched: WatchedBucket, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> object:
        raise BusUnavailable("the resume fails")

    with monkeypatch.context() as failing:
        failing.setattr(WatchedBucket, "_state", fails)
        network.cut()
        await _change(bus)
        await _until_ready(watched, expected=False)
        with pytest.raises(BusUnavailable, match="KV_keys may be out of date"):
            await watched.ready()

    await _until(lambda: dict(watched) == TRUTH)
    await _until_ready(watched)


async def test_a_mistake_of_ours_makes_it_unready_until_it_is_true(
    bus: Bus, watched: WatchedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as failing:
        failing.setattr(WatchedBucket, "_apply", fail)
        await _change(bus)
        await _until_ready(watched, expected=False)

    await _until(lambda: dict(watched) == TRUTH)
