"""A process that is stopped while views are built ends at once, and does not call that a failure."""

import asyncio
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from antiphon.chassis.database import Database
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import locked
from antiphon.persistence.rebuild.upgrade import build_missing

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
