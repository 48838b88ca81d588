"""With any redelivery, in any batches, the views are as if each event had been delivered once."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.projection import Cache, CheckpointAdvance
from antiphon.persistence.projections import PROJECTIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View

# For each batch: how far before the end of the last one it starts, and by how much it extends it.
BATCHES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_any_redelivery_changes_nothing(
    batches: list[tuple[int, int]], postgres_dsn: str, view: "View", new_session: "NewSession"
) -> None:
    calls = [new_session(f"redelivered {n}").whole_call(turns=n + 1) for n in range(3)]
    calls[1].append(new_session("redelivered 1").turn(2, "saved once more"))
    log = view.committed(view.shuffled(calls))
    view._sequences.clear()

    assert asyncio.run(_rows(postgres_dsn, _deliveries(log, batches))) == asyncio.run(
        _rows(postgres_dsn, [log])
    )


def _deliveries(log: Sequence[Envelope], batches: list[tuple[int, int]]) -> list[Sequence[Envelope]]:
    delivered, end = [], 0
    for back, forth in batches:
        start = max(0, end - back)
        end = min(len(log), end + forth)
        delivered.append(log[start:end])
    delivered.append(log[max(0, end - 5) :])
    return [batch for batch in delivered if batch]


async def _rows(dsn: str, deliveries: list[Sequence[Envelope]]) -> list[list[dict[str, object]]]:
    database = await Database.connect(dsn, min_size=0, max_size=1)
    await database.pool.execute("truncate sessions, turns")
    caches: dict[str, Cache] = {projection.name: {} for projection in PROJECTIONS}
    for batch in deliveries:
        for projection in PROJECTIONS:
            async with database.pool.acquire() as connection:
                await projection.apply(
                    connection, batch, CheckpointAdvance(projection.name, [], [], []), caches[projection.name]
                )
    rows = [
        [dict(row) for row in await database.pool.fetch(f"select * from {view} order by 1, 2")]
        for view in ("sessions", "turns")
    ]
    await database.close()
    return rows
