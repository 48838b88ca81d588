"""Apply events to a projection and read the rows of its view."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed
from antiphon.contracts.session import Session, fold
from antiphon.contracts.views import session_json
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections import PROJECTIONS

VIEWS = [table.name for projection in PROJECTIONS for table in projection.tables]


class View:
    """The view of a projection; events get numbers as if committed, without the event log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._projection: Projection
        self._sequences: Counter[str] = Counter()
        self._position = 0

    def __call__(self, projection: Projection) -> "View":
        self._projection = projection
        return self

    def committed(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        """Number events as their commit would."""
        log = []
        for envelope in envelopes:
            self._position += 1
            self._sequences[envelope.subject] += 1
            log.append(committed(envelope, self._sequences[envelope.subject], self._position))
        return log

    async def given(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        """Commit events and fold them in one batch; return them as committed."""
        log = self.committed(envelopes)
        await self.again(log)
        return log

    async def again(self, log: Sequence[Envelope], cache: Cache | None = None) -> None:
        """Fold committed events."""
        nowhere = Advance(self._projection.name, [], [], [], [])
        async with self._database.pool.acquire() as connection:
            await apply(self._projection, connection, log, nowhere, Cache() if cache is None else cache)

    async def rows(self, table: str, order: str = "1, 2") -> list[dict[str, Any]]:
        return [
            dict(row) for row in await self._database.pool.fetch(f"select * from {table} order by {order}")
        ]

    async def state(self, session_id: str) -> Session:
        row = await self._database.pool.fetchrow("select * from sessions where session_id = $1", session_id)
        assert row is not None
        return msgspec.json.decode(session_json(row), type=Session)

    async def empty(self) -> None:
        await self._database.pool.execute(f"truncate {', '.join(VIEWS)}")

    def folded(self, log: Sequence[Envelope]) -> Session:
        """Fold the events of one session."""
        return fold(log[0].subject, log[0].tenant, log)

    def shuffled(self, calls: Sequence[Sequence[Envelope]]) -> list[Envelope]:
        """Interleave calls at random, each in its own order."""
        waiting = [list(call) for call in calls]
        chance = random.Random(7)
        log = []
        while any(waiting):
            log.append(chance.choice([call for call in waiting if call]).pop(0))
        return log


@pytest.fixture
def view(database: Database) -> View:
    """The views, empty."""
    return View(database)
