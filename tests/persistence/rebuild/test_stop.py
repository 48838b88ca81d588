"""The views that a process needs are there until it is stopped, which it does not call a failure."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from antiphon.chassis.database import Database
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild import upgrade
from antiphon.persistence.rebuild.build import locked
from antiphon.persistence.rebuild.upgrade import build_missing, keep_built, live_version

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually


async def test_a_stop_while_a_view_is_built_is_no_failure(
    database: Database, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await database.pool.execute("delete from projections where name = 'turns'")
    stop = asyncio.Event()
    with capture_logs() as logs:
        async with locked(postgres_dsn, "turns"):
            building = asyncio.create_task(
                build_missing(postgres_dsn, database, [TURNS], ReadinessCheck(), stop)
            )

            async def begun() -> bool:
                return any(line["event"] == "projection.build" for line in logs)

            await eventually(begun)
            stop.set()
            await asyncio.wait_for(building, 60)

    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_a_view_that_a_restored_database_lacks_is_built_again(
    database: Database, postgres_dsn: str, eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "LOOK_SECONDS", 0.05)
    stop = asyncio.Event()
    keeping = asyncio.create_task(keep_built(postgres_dsn, database, [TIMELINE], ReadinessCheck(), stop))

    async def is_built() -> bool:
        return await live_version(database, TIMELINE) == TIMELINE.version

    await eventually(is_built)
    await database.pool.execute("drop table timeline, timeline_sessions")
    await database.pool.execute("delete from projection_checkpoints where projection = 'timeline'")
    await database.pool.execute("delete from projections where name = 'timeline'")
    await eventually(is_built)
    stop.set()
    await asyncio.wait_for(keeping, 60)
