"""What KEDA computes from the monitoring of the broker: the messages that no replica has committed.

Its scaler nats-jetstream reads `/jsz` and takes num_pending + num_ack_pending of one durable; the formula of
the ScaledObject adds up those of the 16 partitions.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from antiphon.chassis.bus import Bus, Incoming, Outgoing
from antiphon.cli.stack.disk import MAX_STORE_BYTES
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.process import Command
from antiphon.contracts.streams import CONSUMERS, SESSIONS, ingest_consumer
from antiphon.contracts.subjects import PARTITIONS

EACH = 5  # messages of a partition
WAIT_SECONDS = 30.0


class MonitoredServer(NatsServer):
    """A server with its monitoring, as it is on Kubernetes."""

    monitoring = 0

    def prepare(self) -> Command:
        command = super().prepare()
        self.monitoring = self.monitoring or free_port()
        with (self.directory / "nats.conf").open("a") as config:
            config.write(f'http: "127.0.0.1:{self.monitoring}"\n')
        return command

    async def lags(self) -> dict[str, int]:
        """Return what KEDA takes for the lag of each durable, as its scaler reads it."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.monitoring}") as client:
            answer = await client.get("/jsz", params={"acc": "$G", "consumers": "true", "config": "true"})
        [account] = [one for one in answer.json()["account_details"] if "$G" in (one["id"], one["name"])]
        [stream] = [one for one in account["stream_detail"] if one["name"] == SESSIONS.name]
        return {
            consumer["name"]: consumer["num_pending"] + consumer["num_ack_pending"]
            for consumer in stream.get("consumer_detail", [])
        }

    async def wait_for(self, partition: int, expected: int) -> None:
        """Wait for the lag of a partition."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.lags())[ingest_consumer(partition).name] != expected:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)


@pytest.fixture
def server(server_folder: Path, tmp_path: Path) -> Iterator[MonitoredServer]:
    server = MonitoredServer(tmp_path / "nats", max_store_bytes=MAX_STORE_BYTES)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def stream(server: MonitoredServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(server.url, name="test")
    await bus.ensure()
    for partition in range(PARTITIONS):
        for number in range(EACH):
            subject = f"sessions.{partition}.default.ses_x.turn"
            await bus.publish(Outgoing(subject=subject, payload=b"{}", message_id=f"{partition}-{number}"))
    yield bus
    await bus.close()


async def test_every_durable_is_there_before_the_first_replica_reads(
    server: MonitoredServer, stream: Bus
) -> None:
    """A scaler that finds no durable fails, or takes the length of the stream for its lag."""
    assert await server.lags() == {consumer.name: EACH for consumer in CONSUMERS}


async def test_the_lag_is_right_with_an_owner_without_one_and_after_a_reset(
    server: MonitoredServer, stream: Bus
) -> None:
    consumer = ingest_consumer(3)
    others = PARTITIONS - 1
    async with stream.pull(consumer) as puller:
        batch: list[Incoming] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while len(batch) < EACH:
                batch += await puller.next()
        assert sum((await server.lags()).values()) == EACH * PARTITIONS  # delivered, not committed
        await puller.ack_through(batch[1])  # two are
        await server.wait_for(3, EACH - 2)
    # the owner is gone: what it had is still to be done
    assert (await server.lags())[consumer.name] == EACH - 2

    await stream.reset_consumer(consumer, batch[1].position + 1)  # as the next owner does
    assert (await server.lags())[consumer.name] == EACH - 2
    assert sum((await server.lags()).values()) == EACH * others + EACH - 2
