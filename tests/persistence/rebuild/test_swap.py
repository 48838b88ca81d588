"""The exchange of the tables: readers wait for moments only, and who is in its way is named."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from antiphon.chassis.database import Database
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import swap as swapping
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.rebuild.swap import Blocked
from antiphon.persistence.verify import view_rows
from antiphon.persistence.verify import views as verifying
from antiphon.persistence.verify.views import verify_view

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import Eventually, NewSession


@pytest.fixture
async def turns(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    """The view `turns`, with one call."""
    await filled.put(new_session("a").whole_call())
    await build(postgres_dsn, database, TURNS)


@pytest.mark.usefixtures("turns")
async def test_a_long_reader_is_named_and_others_read_on(database: Database, postgres_dsn: str) -> None:
    reader = await asyncpg.connect(postgres_dsn, server_settings={"application_name": "the report"})
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("select from turns")
    number, told = reader.get_server_pid(), list[str]()
    building = asyncio.create_task(build(postgres_dsn, database, TURNS, on_blocked=told.append))
    longest = 0.0
    while len(told) < 5:
        began = time.monotonic()
        await database.pool.fetchval("select count(*) from turns")
        longest = max(longest, time.monotonic() - began)
        assert not building.done()
        await asyncio.sleep(0.01)
    await transaction.rollback()
    await asyncio.wait_for(building, 60)
    await reader.close()

    assert any(holder.startswith(f"the report (backend {number}, ") for holder in told)
    assert longest < 1.5  # it was two seconds per attempt


@pytest.mark.usefixtures("turns")
async def test_a_reader_that_stays_ends_the_rebuild_with_its_name(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "ATTEMPTS", 2)
    reader = await asyncpg.connect(postgres_dsn, server_settings={"application_name": "the report"})
    try:
        async with reader.transaction():
            await reader.fetch("select from turns")
            number = reader.get_server_pid()
            with pytest.raises(Blocked, match=rf"the report \(backend {number}, .*pg_terminate_backend"):
                await build(postgres_dsn, database, TURNS)
    finally:
        await reader.close()
    folded = 0

    def on_progress(events: int, _: float) -> None:
        nonlocal folded
        folded += events

    await build(postgres_dsn, database, TURNS, on_progress=on_progress)
    assert folded == 0  # it went on from there


@pytest.mark.usefixtures("turns")
async def test_a_rebuild_that_hangs_in_the_exchange_lets_readers_go_on(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, eventually: "Eventually"
) -> None:
    monkeypatch.setattr(swapping, "IDLE_TIMEOUT", "300ms")
    hanging = asyncio.Event()

    async def hang(*_: object) -> None:
        hanging.set()
        await asyncio.sleep(600)

    monkeypatch.setattr(swapping, "attach", hang)
    building = asyncio.create_task(build(postgres_dsn, database, TURNS))
    await asyncio.wait_for(hanging.wait(), 60)

    assert await asyncio.wait_for(database.pool.fetchval("select count(*) from turns"), 25) == 3
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)


@pytest.mark.usefixtures("turns")
async def test_verify_sees_no_empty_view_beside_a_rebuild(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, eventually: "Eventually"
) -> None:
    read = view_rows.stored_rows
    told: list[str] = []
    building: list[asyncio.Task[None]] = []

    async def read_beside_a_rebuild(*arguments: Any) -> AsyncIterator[dict[str, Any]]:
        if not building:
            building.append(asyncio.create_task(build(postgres_dsn, database, TURNS, on_blocked=told.append)))

            async def swapped_or_waits() -> bool:
                return bool(told) or building[0].done()

            await eventually(swapped_or_waits)
        async for row in read(*arguments):
            yield row

    monkeypatch.setattr(verifying, "stored_rows", read_beside_a_rebuild)
    report = await verify_view(database, TURNS)
    await asyncio.wait_for(building[0], 60)

    assert (report.rows, report.differences) == (3, [])
