"""A view that is behind does not rest between its batches: that would only delay it."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.benchmarks.history import calls
from tests.fixtures.filled_log import FilledLog
from tests.persistence.held_loop import hold_all

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.persistence.projection import loop
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import build

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually


async def test_a_view_that_is_behind_does_not_rest(
    bus: Bus,
    database: Database,
    postgres_dsn: str,
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await build(postgres_dsn, database, TIMELINE)
    await FilledLog(database).put(calls(20))
    monkeypatch.setattr(loop, "BATCH", 8)
    monkeypatch.setattr(TIMELINE, "rest_seconds", 0.75)  # after each of 140 batches: two minutes
    stop = asyncio.Event()
    timeline = loop.ProjectionLoop(TIMELINE, database, Log(database, bus), ReadinessCheck())
    running = asyncio.gather(*hold_all(timeline, stop))

    async def all_sessions_ended() -> bool:
        ended = await database.pool.fetchval("select count(*) from timeline where title ~ '^Session closed'")
        return bool(ended == 20)

    await eventually(all_sessions_ended, 60)
    stop.set()
    await asyncio.wait_for(running, 60)
