"""What a worker loads before it has a call: the providers of the newest revisions."""

import json
from typing import Any

from tests.agent_worker.providers.voice_flows import source

from antiphon.agent_worker.providers.loaded import OFFLINE_PROVIDERS
from antiphon.agent_worker.used_providers import FLOWS, used_providers
from antiphon.chassis.bus import Bus

OPENAI = "stt: openai\nllm: openai\ntts: {use: openai, fallbacks: [offline]}"


class _Link:
    """A link to a broker that is there."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def bus(self) -> Bus:
        """Return the bus."""
        return self._bus


async def _used(bus: Bus) -> frozenset[tuple[str, str]]:
    link: Any = _Link(bus)
    return await used_providers(link)


async def _publish(bus: Bus, key: str, text: str) -> None:
    bucket = await bus.bucket(FLOWS)
    await bucket.put(key, json.dumps({"source": text}).encode())


async def test_without_flows_it_loads_the_offline_ones(bus: Bus) -> None:
    assert await _used(bus) == OFFLINE_PROVIDERS


async def test_it_loads_those_of_the_newest_revisions(bus: Bus) -> None:
    await _publish(bus, "default.small.9", source("stt: deepgram\nllm: openai-responses\ntts: deepgram"))
    await _publish(bus, "default.small.10", source(OPENAI))
    assert await _used(bus) == {
        ("vad", "silero"),
        ("stt", "openai"),
        ("llm", "openai"),
        ("tts", "openai"),
        ("tts", "offline"),
    }


async def test_a_revision_that_cannot_be_read_stops_no_worker(bus: Bus) -> None:
    await _publish(bus, "default.small.1", source(OPENAI))
    await _publish(bus, "default.broken.1", "id: [")
    bucket = await bus.bucket(FLOWS)
    await bucket.put("default.nonsense.1", b"{")
    assert ("llm", "openai") in await _used(bus)
