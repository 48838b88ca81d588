"""Watched buckets across restarts and connection losses."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.cli.stack.nats import NatsServer

Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_a_watched_bucket_survives_a_killed_broker(
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


async def test_an_empty_bucket_that_was_made_again_removes_nothing(bus: Bus, until: Until) -> None:
    """The broker has lost its data, and a service has made the bucket again: a restore fills it."""
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"1")
    watched = await bucket.watch()

    await bus.connection.api("STREAM.DELETE.KV_keys")
    await until(lambda: watched._interruption is not None)
    await bus.ensure_buckets()
    await until(lambda: "restore the buckets" in str(watched._interruption))
    assert watched == {"a": b"1"}
    with pytest.raises(BusUnavailable, match="restore the buckets"):
        await watched.ready()

    await bucket.put("b", b"2")
    await until(lambda: watched == {"b": b"2"})
    await watched.ready()
    await watched.close()


async def test_a_change_during_a_connection_loss_arrives(
    bus: Bus, far_bus: Bus, network: Any, until: Until
) -> None:
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"1")
    watched = await (await far_bus.bucket("keys")).watch()

    network.drop_answers = True
    await bucket.delete("a")
    await bucket.put("b", b"2")
    network.drop_answers = False
    network.cut()

    await until(lambda: dict(watched) == {"b": b"2"})
    await watched.close()


async def test_more_keys_than_a_batch_are_loaded(bus: Bus) -> None:
    bucket = await bus.bucket("flows")
    for number in range(600):
        await bucket.put(f"default.f.{number}", b"%d" % number)

    watched = await bucket.watch()

    assert watched == {f"default.f.{number}": b"%d" % number for number in range(600)}
    assert len(await bucket.keys()) == 600
    await watched.close()


async def test_watching_a_missing_bucket_raises(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.chassis.bus.kv.CONNECT_DEADLINE_SECONDS", 0.3)
    bucket = await bus.bucket("nowhere")

    with pytest.raises(BusUnavailable, match="KV_nowhere"):
        await bucket.watch()


async def test_an_update_replaces_only_the_revision_that_was_read(bus: Bus) -> None:
    bucket = await bus.bucket("keys")
    assert await bucket.entry("a") is None
    await bucket.put("a", b"1")
    entry = await bucket.entry("a")
    assert entry is not None

    assert await bucket.update("a", b"2", entry.revision)
    assert not await bucket.update("a", b"3", entry.revision)

    assert await bucket.get("a") == b"2"


async def test_an_update_does_not_bring_a_deleted_key_back(bus: Bus) -> None:
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"1")
    entry = await bucket.entry("a")
    assert entry is not None
    await bucket.delete("a")

    assert not await bucket.update("a", b"2", entry.revision)
    assert await bucket.get("a") is None


async def test_what_is_left_of_removed_keys_is_purged_and_no_key_is(bus: Bus) -> None:
    bucket = await bus.bucket("keys")
    before = (await bus.connection.api("STREAM.INFO.KV_keys"))["state"]["messages"]
    for name in ("gone", "back", "stays"):
        await bucket.put(name, b"1")
    await bucket.delete("gone")
    await bucket.delete("back")
    await bucket.put("back", b"2")

    assert await bucket.purge_removed(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await bucket.purge_removed(datetime.now(UTC) + timedelta(hours=1)) == 1

    assert await bucket.keys() == ["back", "stays"]
    after = (await bus.connection.api("STREAM.INFO.KV_keys"))["state"]["messages"]
    assert after == before + 2
