"""Servers are lost with all their data, under load: what was acknowledged is in the log afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.persistence.backup.conftest import Site

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.streams import KEYS

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, NewSession

pytestmark = pytest.mark.slow


@asynccontextmanager
async def load(site: Site, new_session: "NewSession", name: str) -> AsyncIterator[list[list[Envelope]]]:
    """Publish calls one after the other, all the time; yield those that are acknowledged."""
    acknowledged: list[list[Envelope]] = []
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            call = new_session(f"{name} {len(acknowledged)}").whole_call()
            await site.publish(call)
            acknowledged.append(call)

    task = asyncio.create_task(publish())
    try:
        yield acknowledged
    finally:
        stop.set()
        await task


async def test_postgres_is_lost_and_the_stream_has_the_rest(
    site: Site, new_session: "NewSession", eventually: "Eventually", tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    await site.persistence()
    async with load(site, new_session, "before") as calls:
        await eventually(lambda: _at_least(calls, 20))
        output = await site.succeeds("backup", str(backup))
        assert "postgres, buckets, stream" in output
        await eventually(lambda: _at_least(calls, 40))
        site.lose_postgres()
        lost_at = len(calls)
        assert "Restored: postgres." in await site.succeeds("restore", str(backup), "--only", "postgres")
        await eventually(lambda: _at_least(calls, lost_at + 5))
    await site.persistence()

    for call in calls:
        await site.until_committed(call, eventually)
    await site.proves_the_log(backup)
    assert "gap" not in await site.succeeds("streams", "status")


async def test_the_stream_and_the_buckets_are_lost_and_the_log_is_whole(
    site: Site, new_session: "NewSession", eventually: "Eventually", tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    async with site.bus() as bus:
        await (await bus.bucket(KEYS.name)).put("hash", b"a key")
    persistence = await site.persistence()
    session = new_session("before and after")
    before = session.whole_call()
    await site.publish(before)
    await site.until_committed(before, eventually)
    await site.succeeds("backup", str(backup))
    site.lose_nats()
    await eventually(lambda: persistence.is_unready_because("streams recreate"), seconds=60)

    output = await site.succeeds("restore", str(backup), "--only", "buckets")
    assert "bucket keys: 1 keys written" in output
    assert "The log has everything" in await site.succeeds("streams", "recreate")
    after = [session.turn(4)]
    await site.publish(after)

    await site.until_committed(before + after, eventually)
    await persistence.until_ready()
    async with site.bus() as bus:
        assert await (await bus.bucket(KEYS.name)).get("hash") == b"a key"
    await site.proves_the_log(backup)


async def test_both_are_lost_and_everything_before_the_end_of_the_backup_is_there(
    site: Site, new_session: "NewSession", eventually: "Eventually", tmp_path: Path
) -> None:
    """Under load, and with events that persistence had not read: they are in the stream of the backup."""
    backup = tmp_path / "backup"
    persistence = await site.persistence()
    async with load(site, new_session, "before") as calls:
        await eventually(lambda: _at_least(calls, 20))
        await persistence.end()
        count = len(calls)
        await eventually(lambda: _at_least(calls, count + 10))
        acknowledged = list(calls)
        await site.succeeds("backup", str(backup))
    site.lose_nats()
    site.lose_postgres()

    output = await site.succeeds("restore", str(backup))
    assert "Restored: postgres, buckets, stream." in output
    await site.persistence()
    for call in acknowledged:
        await site.until_committed(call, eventually)
    later = new_session("later").whole_call()
    await site.publish(later)
    await site.until_committed(later, eventually)
    await site.proves_the_log(backup)
    assert "gap" not in await site.succeeds("streams", "status")


async def _at_least(calls: list[list[Envelope]], count: int) -> bool:
    return len(calls) >= count
