"""When a key was last used: written in the background, never over the record of the key."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.session_api.keys import usage as module
from antiphon.session_api.keys.records import Keys
from antiphon.session_api.keys.usage import KeyUsage

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
Put = Callable[..., Awaitable[str]]


@pytest.fixture
async def keys(bus: Bus, put_key: Put) -> Any:
    """The watched keys, with the key `ci`."""
    await put_key("ci")
    watched = await (await bus.bucket("keys")).watch()
    yield Keys(watched)
    await watched.close()


async def test_use_is_written_and_read_by_other_replicas(bus: Bus, keys: Keys, until: Any) -> None:
    [record] = keys.all()
    usage, other = KeyUsage(bus, keys, lambda: NOW), KeyUsage(bus, keys, lambda: NOW)

    usage.touch(record.digest, NOW)
    assert usage.used_at(record.digest) == NOW
    assert other.used_at(record.digest) is None
    await usage.write()

    async def arrived() -> bool:
        return other.used_at(record.digest) == NOW

    await until(arrived)


async def test_writing_a_use_does_not_undo_a_revocation(bus: Bus, keys: Keys, until: Any) -> None:
    [record] = keys.all()
    usage = KeyUsage(bus, keys, lambda: NOW)
    usage.touch(record.digest, NOW)

    bucket = await bus.bucket("keys")
    await bucket.delete(record.digest)
    await usage.write()

    assert await bucket.get(record.digest) is None


async def test_an_earlier_use_does_not_replace_a_later_one(bus: Bus, keys: Keys, until: Any) -> None:
    [record] = keys.all()
    late, early = KeyUsage(bus, keys, lambda: NOW), KeyUsage(bus, keys, lambda: NOW)
    late.touch(record.digest, NOW)
    await late.write()

    async def arrived() -> bool:
        return keys.used_at(record.digest) == NOW

    await until(arrived)
    early.touch(record.digest, NOW - timedelta(minutes=1))
    await early.write()

    assert await (await bus.bucket("keys")).get(f"used.{record.digest}") == NOW.isoformat().encode()


async def test_what_cannot_be_written_is_written_later(bus: Bus, keys: Keys, monkeypatch: Any) -> None:
    [record] = keys.all()
    usage = KeyUsage(bus, keys, lambda: NOW)
    usage.touch(record.digest, NOW)

    async def unavailable(_: str) -> None:
        raise BusUnavailable("away")

    with monkeypatch.context() as away:
        away.setattr(bus, "bucket", unavailable)
        with pytest.raises(BusUnavailable):
            await usage.write()
    await usage.write()

    assert await (await bus.bucket("keys")).get(f"used.{record.digest}")


async def test_it_writes_in_the_background_and_reports_its_failures(
    bus: Bus, keys: Keys, until: Any, monkeypatch: Any
) -> None:
    [record] = keys.all()
    usage = KeyUsage(bus, keys, lambda: NOW, write_seconds=0.01)
    usage.touch(record.digest, NOW)
    usage.start()

    async def written() -> bool:
        return keys.used_at(record.digest) == NOW

    async def failing() -> bool:
        try:
            await usage.ready()
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            return "key usage" in str(error)
        return False

    await until(written)
    await usage.ready()

    async def unavailable(_: str) -> None:
        raise BusUnavailable("away")

    with capture_logs():
        monkeypatch.setattr(bus, "bucket", unavailable)
        await until(failing)
    await usage.close()


async def test_uses_in_memory_are_bounded(bus: Bus, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING", 3)
    usage = KeyUsage(bus, keys, lambda: NOW)

    for number in range(10):
        usage.touch(str(number), NOW)

    assert len(usage._pending) == 3
