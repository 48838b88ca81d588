"""A log with calls, and the views of it that a live loop keeps up to date."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from tests.fixtures.filled_log import FilledLog
from tests.persistence.held_loop import hold_all

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck


class Live:
    """Loops that keep views up to date, in the test's own event loop."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._log = Log(database, bus)
        self._database = database
        self._stops: list[asyncio.Event] = []
        self._tasks: list[asyncio.Future[Any]] = []

    def start(self, *projections: Projection) -> asyncio.Event:
        """Start loops that hold all partitions, again after each time that they are fenced."""
        stop = asyncio.Event()
        self._stops.append(stop)
        for projection in projections:
            loop = ProjectionLoop(projection, self._database, self._log, ReadinessCheck())
            self._tasks += hold_all(loop, stop)
        return stop

    async def end(self) -> None:
        for stop in self._stops:
            stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)


@pytest.fixture
async def live(bus: Bus, database: Database) -> AsyncIterator[Live]:
    live = Live(bus, database)
    yield live
    await live.end()


@pytest.fixture
def filled(database: Database) -> FilledLog:
    """The log, to put events into."""
    return FilledLog(database)


Rows = Callable[[str], Any]


@pytest.fixture
def rows(database: Database) -> Rows:
    """Read all rows of a view, without those columns that only say when they were written."""

    async def read(table: str) -> Sequence[dict[str, Any]]:
        found = await database.pool.fetch(f"select * from {table} order by 1, 2, 3")
        return [dict(row) for row in found]

    return read


BOTH = (SESSIONS, TURNS)
