"""Providers of revisions that are published while a worker runs: its next processes load them."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytest
from tests.agent_worker.providers.voice_flows import source

from antiphon.agent_worker import used_providers
from antiphon.agent_worker.providers.loaded import OFFLINE_PROVIDERS, Named
from antiphon.agent_worker.used_providers import FLOWS, LaterProviders
from antiphon.agent_worker.worker import SetUp
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.recorder.outbox import BusLink

OPENAI = "stt: openai\nllm: openai\ntts: openai"
DEEPGRAM = "stt: deepgram\nllm: offline\ntts: offline"
SECONDS = 60.0


@dataclass
class Following:
    """What a running worker's main process knows."""

    setup: SetUp
    task: BackgroundTask

    async def has(self, named: Named) -> None:
        """Wait until a process that starts now would load a provider."""
        async with asyncio.timeout(SECONDS):
            while named not in self.setup.providers:
                self.task.check()
                await asyncio.sleep(0.005)


@pytest.fixture
async def following(bus: Bus, nats_server: NatsServer) -> AsyncIterator[Following]:
    link = BusLink(partial(Bus.connect, nats_server.url))
    setup = SetUp()
    task = BackgroundTask(partial(LaterProviders(setup).follow, link), name="later providers")
    yield Following(setup, task)
    await task.close()
    await link.close()


@pytest.fixture
def new_bucket(bus: Bus) -> Callable[[], Awaitable[None]]:
    """Delete the bucket with all flows, and make it again."""

    async def make() -> None:
        await bus.connection.api(f"STREAM.DELETE.KV_{FLOWS}")
        await bus.ensure()

    return make


async def publish(bus: Bus, key: str, voice: str) -> None:
    await (await bus.bucket(FLOWS)).put(key, json.dumps({"source": source(voice)}).encode())


async def test_a_revision_is_known_without_a_poll(bus: Bus, following: Following) -> None:
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    assert following.setup.providers >= OFFLINE_PROVIDERS

    await publish(bus, "default.first.2", DEEPGRAM)
    await following.has(("stt", "deepgram"))


async def test_a_process_that_starts_later_loads_them(
    bus: Bus, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[frozenset[Named]] = []
    monkeypatch.setattr(
        "antiphon.agent_worker.worker.prewarm_process", lambda _, providers, __: loaded.append(providers)
    )
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    # as LiveKit starts a process
    pickle.loads(pickle.dumps(following.setup))(cast("Any", None))
    assert ("llm", "openai") in loaded[0]


async def test_it_goes_on_after_a_restart_of_the_broker(
    bus: Bus, following: Following, nats_server: NatsServer
) -> None:
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    nats_server.kill()
    nats_server.start()
    await publish(bus, "default.second.1", DEEPGRAM)
    await following.has(("stt", "deepgram"))


async def test_it_goes_on_when_the_bucket_is_made_again(
    bus: Bus, following: Following, new_bucket: Callable[[], Awaitable[None]]
) -> None:
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    await new_bucket()
    await publish(bus, "default.second.1", DEEPGRAM)
    await following.has(("stt", "deepgram"))


async def test_a_revision_that_cannot_be_read_is_left_out(bus: Bus, following: Following) -> None:
    bucket = await bus.bucket(FLOWS)
    await bucket.put("default.nonsense.1", b"{")
    await bucket.put("default.broken.1", json.dumps({"source": "id: ["}).encode())
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    assert following.task.failures == 0


async def test_what_was_there_is_not_read_again(
    bus: Bus, following: Following, new_bucket: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that is resumed reads the whole bucket: a check of each flow would keep the worker busy."""
    await publish(bus, "default.first.1", OPENAI)
    await following.has(("llm", "openai"))
    read: list[bytes] = []
    original = used_providers._read

    def counted(stored: bytes, key: str) -> Any:
        read.append(stored)
        return original(stored, key)

    monkeypatch.setattr(used_providers, "_read", counted)
    await new_bucket()
    await publish(bus, "default.first.1", OPENAI)
    await publish(bus, "default.second.1", DEEPGRAM)
    await following.has(("stt", "deepgram"))
    assert len(read) == 1
