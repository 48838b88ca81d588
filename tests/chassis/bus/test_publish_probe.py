"""Whether events can be stored: a server whose disk was full answers everything, and stores nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.full_disk import children_survive_a_full_disk, fill, free

from antiphon.chassis.bus import Bus, BusUnavailable, Outgoing, StreamFull, publish_probe
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PROBE

MessageOf = Callable[..., Outgoing]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    with children_survive_a_full_disk():
        server.start()
    yield server
    server.kill()


@pytest.fixture
async def own_bus(server: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(server.url)
    await bus.ensure()
    yield bus
    await bus.close()


def _pid(server: NatsServer) -> int:
    assert server.process is not None
    return server.process.pid


async def _probes(bus: Bus) -> int:
    return len([message async for message in bus.read(PROBE)])


async def test_a_stream_that_cannot_be_written_is_noticed_until_the_server_is_restarted(
    server: NatsServer, own_bus: Bus, message: MessageOf
) -> None:
    await own_bus.publishable()
    fill(_pid(server))
    with pytest.raises(BusUnavailable):
        await own_bus.publish(message(1), timeout_seconds=1)
    with pytest.raises(BusUnavailable, match="not acknowledged"):
        await own_bus.publishable()

    free(_pid(server))
    await asyncio.sleep(publish_probe.REFUSED_SECONDS)
    await own_bus.ready()  # the server is well, and knows nothing
    with pytest.raises(BusUnavailable):
        await own_bus.publish(message(2), timeout_seconds=1)
    with pytest.raises(BusUnavailable):
        await own_bus.publishable()

    server.stop()
    server.start()
    async with asyncio.timeout(60):
        while True:
            try:
                await own_bus.publishable()
                break
            except BusUnavailable:
                await asyncio.sleep(0.2)
    await own_bus.publish(message(3))


async def test_an_idle_process_notices_a_full_disk(
    server: NatsServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own_bus.publishable()
    fill(_pid(server))
    monkeypatch.setattr(publish_probe, "FRESH_SECONDS", 0.0)  # a minute later

    with pytest.raises(BusUnavailable):
        await own_bus.publishable()


async def test_a_check_of_a_process_that_publishes_stores_nothing(bus: Bus, message: MessageOf) -> None:
    await bus.publish(message(1))
    await bus.publish_many([message(2), message(3)])

    await asyncio.gather(*(bus.publishable() for _ in range(20)))

    assert await _probes(bus) == 0


async def test_many_checks_of_an_idle_process_store_one_message(bus: Bus) -> None:
    await asyncio.gather(*(bus.publishable() for _ in range(20)))
    await bus.publishable()

    assert await _probes(bus) == 1


async def test_a_full_stream_is_named_and_asked_seldom(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    full = {**info["config"], "max_bytes": 1}
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", full)
    monkeypatch.setattr(publish_probe, "REFUSED_SECONDS", 60.0)

    for _ in range(3):
        with pytest.raises(StreamFull, match="is full: it holds"):
            await bus.publishable()

    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", info["config"])
    with pytest.raises(StreamFull):  # the answer of before
        await bus.publishable()
    monkeypatch.setattr(publish_probe, "REFUSED_SECONDS", 0.0)
    await bus.publishable()
    assert await _probes(bus) == 1


async def test_buckets_can_be_written_while_the_stream_is_full(bus: Bus, message: MessageOf) -> None:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", {**info["config"], "max_bytes": 1})
    with pytest.raises(StreamFull):
        await bus.publish(message(1), timeout_seconds=1)

    for name in ("keys", "flows", "rooms", "deployment"):
        bucket = await bus.bucket(name)
        await bucket.put("a", b"written")
        assert await bucket.get("a") == b"written"


async def test_a_stream_with_space_for_probes_only_stays_red(
    bus: Bus, message: MessageOf, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_probe, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(publish_probe, "REFUSED_SECONDS", 0.0)
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    nearly = {**info["config"], "max_bytes": 2_000}
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", nearly)
    large = Outgoing(message(1).subject, b"w" * 3_000, "large")
    with pytest.raises(StreamFull):
        await bus.publish(large, timeout_seconds=1)

    idle = await Bus.connect(nats_server.url, name="idle")
    for each in (bus, idle, bus):
        with pytest.raises(StreamFull, match="is full: it holds"):
            await each.publishable()
    await idle.close()
    assert await _probes(bus) == 0  # which would fill the rest

    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", info["config"])
    await bus.publishable()
    await bus.publish(large)
