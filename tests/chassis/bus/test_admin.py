"""Definitions: created once, never changed; a difference that matters raises."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import (
    Bus,
    DefinitionMismatch,
    DefinitionMissing,
    Outgoing,
    StorageTooSmall,
    StreamFull,
    StreamMissing,
)
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import AUDIT, CONSUMERS, SESSIONS
from antiphon.contracts.subjects import ALL_EVENTS

MessageOf = Callable[..., Outgoing]


async def change(bus: Bus, **fields: Any) -> None:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    await bus.connection.api(f"STREAM.UPDATE.{SESSIONS.name}", {**info["config"], **fields})


async def config(bus: Bus) -> dict[str, Any]:
    info = await bus.connection.api(f"STREAM.INFO.{SESSIONS.name}")
    found: dict[str, Any] = info["config"]
    return found


async def test_ensure_is_idempotent(bus: Bus) -> None:
    before = await config(bus)

    await bus.ensure()

    assert await config(bus) == before


async def test_fields_that_an_operator_tuned_are_kept(bus: Bus) -> None:
    await change(bus, description="ours", max_bytes=1 << 30, max_age=3600 * 10**9)
    tuned = await config(bus)

    await bus.ensure()
    await bus.verify()

    assert await config(bus) == tuned


async def test_the_size_of_the_stream_is_set_and_what_it_holds_stays(bus: Bus, message: MessageOf) -> None:
    for number in range(20):
        await bus.publish(message(number, size=1000))

    await bus.ensure(max_bytes=1 << 29)
    assert (await config(bus))["max_bytes"] == 1 << 29
    await bus.ensure()
    assert (await config(bus))["max_bytes"] == 1 << 29
    await bus.ensure(max_bytes=10_000)  # less than it holds

    assert len([stored async for stored in bus.read(ALL_EVENTS)]) == 20
    with pytest.raises(StreamFull):
        await bus.publish(message(21), timeout_seconds=0.5)


async def test_a_stream_that_does_not_fit_the_broker_is_refused_with_both_numbers(tmp_path: Path) -> None:
    small = NatsServer(tmp_path, max_store_bytes=AUDIT.max_bytes + (10 << 20))
    small.start()
    bus = await Bus.connect(small.url)
    for given, shown in ((None, "8.0 GiB"), (11 << 20, "11 MiB")):
        with pytest.raises(StorageTooSmall, match=f"reserves {shown}, other .* ANTIPHON_STREAM_MAX_BYTES"):
            await bus.ensure(max_bytes=given)
    await bus.ensure(max_bytes=5 << 20)

    with pytest.raises(StorageTooSmall, match="reserves 11 MiB, other streams reserve 256 MiB"):
        await bus.ensure(max_bytes=11 << 20)
    await bus.close()
    small.kill()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discard", "old"),
        ("allow_direct", False),
        ("allow_atomic", False),
        ("duplicate_window", 60 * 10**9),
        ("metadata", {"antiphon.partitions": "8"}),
    ],
)
async def test_a_difference_that_matters_is_named(bus: Bus, field: str, value: object) -> None:
    await change(bus, **{field: value})

    with pytest.raises(DefinitionMismatch, match=f"stream SESSIONS: {field} is"):
        await bus.verify()
    with pytest.raises(DefinitionMismatch):
        await bus.ensure()


async def test_missing_definitions_are_named_and_then_created(bus: Bus) -> None:
    await bus.connection.api(f"CONSUMER.DELETE.SESSIONS.{CONSUMERS[3].name}")
    await bus.connection.api("STREAM.DELETE.KV_keys")

    with pytest.raises(
        DefinitionMismatch, match=r"stream KV_keys does not exist; consumer .* does not exist"
    ):
        await bus.verify()

    await bus.ensure()
    await bus.verify()


async def test_a_missing_stream_is_created_only_if_that_is_allowed(bus: Bus) -> None:
    await erase(bus)

    with pytest.raises(StreamMissing):
        await bus.ensure(create_streams=False)
    with pytest.raises(StreamMissing):
        await bus.ensure_consumer(CONSUMERS[0])
    await bus.ensure_buckets()
    assert await bus.stream_state() is None
    with pytest.raises(DefinitionMissing, match=r"^stream SESSIONS does not exist \(persistence creates it"):
        await bus.verify()


async def test_verify_waits_for_what_another_service_creates(bus: Bus, far_bus: Bus) -> None:
    await erase(bus)
    verifying = asyncio.create_task(bus.verify(wait_seconds=60))
    with pytest.raises(DefinitionMissing):
        await far_bus.verify()
    assert not verifying.done()

    await far_bus.ensure()
    await asyncio.wait_for(verifying, 60)


async def test_two_services_may_ensure_concurrently(bus: Bus, far_bus: Bus) -> None:
    await erase(bus)

    await asyncio.gather(bus.ensure(), far_bus.ensure())

    await bus.verify()
