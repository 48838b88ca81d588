"""The heartbeats of a worker, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from pydantic import ValidationError

from antiphon.agent_worker.heartbeats import Heartbeats
from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import MISSED, Bus, Subscription
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.workers import ALL_WORKERS, WorkerHeartbeat, decode_heartbeat, worker_subject
from antiphon.recorder.outbox import BusLink

WAIT_SECONDS = 30.0
CHANGES = 100


class Calls:
    """What a worker would count."""

    active = 0
    draining = False


@asynccontextmanager
async def beating(server: NatsServer, calls: Calls) -> AsyncIterator[Heartbeats]:
    link = BusLink(partial(Bus.connect, server.url, name="worker"))
    heartbeats = Heartbeats(
        link,
        pod="agent-worker-0",
        capacity=4,
        calls=lambda: calls.active,
        draining=lambda: calls.draining,
    )
    heartbeats.begin()
    task = BackgroundTask(heartbeats.run, name="heartbeats")
    try:
        yield heartbeats
    finally:
        await task.close()
        await link.close()


async def beat_with(subscription: Subscription, active: int) -> tuple[WorkerHeartbeat, int]:
    """Return the first heartbeat with so many calls, and how many there were before."""
    before = 0
    async with asyncio.timeout(WAIT_SECONDS):
        async for announcement in subscription:
            if announcement is MISSED:
                continue
            subject, payload = announcement
            beat = decode_heartbeat(payload)
            assert subject == worker_subject(beat.worker)
            if beat.active_calls == active:
                return beat, before
            before += 1
    raise AssertionError("the subscription ended")


async def test_a_worker_says_each_change_once(bus: Bus, nats_server: NatsServer) -> None:
    subscription = await bus.subscribe(ALL_WORKERS)
    calls = Calls()
    async with beating(nats_server, calls) as heartbeats:
        first, _ = await beat_with(subscription, 0)
        for calls.active in range(1, CHANGES + 1):
            heartbeats.changed()
        last, before = await beat_with(subscription, CHANGES)
        calls.draining = True
        heartbeats.changed()
        while not (drained := (await beat_with(subscription, CHANGES))[0]).draining:
            pass

    assert (first.pod, first.capacity, first.draining) == ("agent-worker-0", 4, False)
    assert {first.worker, last.worker, drained.worker} == {heartbeats.worker}
    assert before < CHANGES / 2  # together, not one by one


async def test_the_last_heartbeat_is_said_at_the_end(bus: Bus, nats_server: NatsServer) -> None:
    subscription = await bus.subscribe(ALL_WORKERS)
    calls = Calls()
    calls.active = 1
    async with beating(nats_server, calls) as heartbeats:
        await beat_with(subscription, 1)
        calls.active, calls.draining = 0, True
        await heartbeats.end()
    last, _ = await beat_with(subscription, 0)

    assert (last.worker, last.draining) == (heartbeats.worker, True)


async def test_without_a_broker_a_worker_ends_without_a_last_word() -> None:
    link = BusLink(partial(Bus.connect, "nats://127.0.0.1:1", name="worker"))
    heartbeats = Heartbeats(link, pod=None, capacity=None, calls=lambda: 0, draining=lambda: True)
    heartbeats.begin()

    await heartbeats.end()

    await link.close()


async def test_heartbeats_come_again_after_an_outage(bus: Bus, nats_server: NatsServer) -> None:
    subscription = await bus.subscribe(ALL_WORKERS)
    calls = Calls()
    async with beating(nats_server, calls):
        await beat_with(subscription, 0)
        nats_server.kill()
        calls.active = 2  # without a word: the next heartbeat says it
        nats_server.start()
        beat, _ = await beat_with(subscription, 2)

    assert beat.active_calls == 2


def test_two_starts_are_two_workers() -> None:
    link = BusLink(None)
    two = [
        Heartbeats(link, pod=None, capacity=None, calls=lambda: 0, draining=lambda: False) for _ in range(2)
    ]

    assert two[0].worker != two[1].worker


@pytest.mark.parametrize("name", ["../secrets", "A", "a b"])
def test_a_wrong_name_of_a_pod_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="must be the name of a pod"):
        AgentSettings(livekit_api_key="k", livekit_api_secret="s" * 32, pod_name=name)


def test_outside_of_kubernetes_there_is_no_pod() -> None:
    assert AgentSettings(livekit_api_key="k", livekit_api_secret="s" * 32, pod_name="").pod_name is None
