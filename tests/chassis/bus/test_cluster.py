"""Three servers, three replicas: any server may die, and nothing that was acknowledged is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.fixtures.nats_servers import ConfiguredServer, cluster, kill_all

from antiphon.chassis.bus import Bus, BusError, DefinitionMismatch, Outgoing
from antiphon.contracts.streams import ingest_consumer

SUBJECT = "sessions.3.default.ses_1.turn"
SECONDS = 120.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[ConfiguredServer]]:
    servers = cluster(tmp_path)
    for server in servers:
        server.launch()
    yield servers
    kill_all(servers)


@pytest.fixture
async def clustered(servers: list[ConfiguredServer]) -> AsyncIterator[Bus]:
    """A bus on the cluster, whose streams have three replicas."""
    await asyncio.sleep(0.5)
    for server in servers:
        server.launch_again()
    bus = await servers[0].connect(",".join(server.url for server in servers))
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await bus.ensure(replicas=3)
                break
            except BusError:  # the cluster has no leader yet, or not all of its servers
                await asyncio.sleep(0.3)
    yield bus
    await bus.close()


async def _publish(bus: Bus, number: int) -> int:
    """Publish until it is acknowledged; a cluster without a leader refuses for some seconds."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return (await bus.publish(Outgoing(SUBJECT, b"%d" % number, f"id-{number}"))).position
            except BusError:
                await asyncio.sleep(0.2)


async def _leader(bus: Bus, servers: list[ConfiguredServer]) -> ConfiguredServer:
    info = await bus.connection.api("STREAM.INFO.SESSIONS")
    return next(server for server in servers if f"antiphon-{server.port}" == info["cluster"]["leader"])


async def _pulled(bus: Bus, count: int) -> list[bytes]:
    """Pull as persistence does: after an error, from the next position."""
    consumer, payloads, position = ingest_consumer(3), list[bytes](), 0
    async with asyncio.timeout(SECONDS):
        while len(payloads) < count:
            try:
                await bus.reset_consumer(consumer, position + 1)
                async with bus.pull(consumer) as puller:
                    while len(payloads) < count:
                        for incoming in await puller.next():
                            payloads.append(incoming.payload)
                            position = incoming.position
            except BusError:
                await asyncio.sleep(0.2)
    return payloads


@pytest.mark.timeout(600)
async def test_nothing_acknowledged_is_lost_when_servers_die(
    clustered: Bus, servers: list[ConfiguredServer]
) -> None:
    for number in range(50):
        await _publish(clustered, number)
    for round_ in (1, 2):  # the leader, then another one
        victim = await _leader(clustered, servers)
        if round_ == 2:
            victim = next(server for server in servers if server is not victim)
        victim.kill()
        for number in range(50 * round_, 50 * round_ + 50):
            await _publish(clustered, number)
        victim.launch()
        await (await victim.connect(victim.url)).close()

    expected = [b"%d" % number for number in range(150)]
    assert await _pulled(clustered, 150) == expected
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                read = [incoming.payload async for incoming in clustered.read("sessions.3.>")]
                break
            except BusError:  # no leader yet, or a replica that has just started answers
                await asyncio.sleep(0.5)
    assert read == expected


@pytest.mark.timeout(300)
async def test_all_messages_are_read_while_a_replica_is_behind(
    clustered: Bus, servers: list[ConfiguredServer]
) -> None:
    for number in range(20):
        await _publish(clustered, number)
    leader = await _leader(clustered, servers)
    connected = clustered.connection.client.connected_url
    victim = next(
        server
        for server in servers
        if server is not leader and connected is not None and server.port != connected.port
    )
    victim.kill()
    for number in range(20, 200):
        await _publish(clustered, number)
    victim.launch()  # it answers direct gets while it catches up

    expected = [b"%d" % number for number in range(200)]
    for _ in range(20):
        assert [incoming.payload async for incoming in clustered.all_messages()] == expected
        assert [incoming.payload async for incoming in clustered.read(SUBJECT)] == expected
        last = await clustered.last(SUBJECT)
        assert last is not None
        assert last.payload == b"199"
        await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
async def test_streams_and_buckets_have_the_replicas_of_the_setting(clustered: Bus) -> None:
    for stream in ("SESSIONS", "KV_keys", "KV_flows"):
        info = await clustered.connection.api(f"STREAM.INFO.{stream}")
        assert info["config"]["num_replicas"] == 3
    await clustered.verify(replicas=3)
    await clustered.verify()  # without the setting, the operator decides
    await clustered.ensure()

    with pytest.raises(DefinitionMismatch, match="stream SESSIONS: num_replicas is 3, not 1"):
        await clustered.verify(replicas=1)
    with pytest.raises(DefinitionMismatch):
        await clustered.ensure(replicas=1)


async def test_more_replicas_than_servers_are_refused(bus: Bus) -> None:
    await bus.connection.api("STREAM.DELETE.KV_flows")
    with pytest.raises(BusError, match="replicas"):
        await bus.ensure(replicas=3)
