"""With any redelivery, in any batches, the views are as if each event had been delivered once."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionAdopted, SessionClosed
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections import PROJECTIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession
    from tests.persistence.projections.conftest import View

# For each batch: how far before the end of the last one it starts, and by how much it extends it.
BATCHES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_any_redelivery_changes_nothing(
    batches: list[tuple[int, int]], postgres_dsn: str, view: "View", new_session: "NewSession"
) -> None:
    sessions = [new_session(f"redelivered {n}") for n in range(3)]
    calls = [session.whole_call(turns=n + 1) for n, session in enumerate(sessions)]
    calls[1].append(sessions[1].turn(2, "saved once more"))
    calls.append(_two_agents(new_session("two agents")))
    log = view.committed(view.shuffled(calls))
    view._sequences.clear()

    assert asyncio.run(_rows(postgres_dsn, _deliveries(log, batches))) == asyncio.run(
        _rows(postgres_dsn, [log])
    )


def _two_agents(session: "SampleSession") -> list[Envelope]:
    """Return the events of a session that nobody requested, with two agents that speak at once."""
    first, second = "AJ_1", "AJ_2"
    joined = AgentJoined(job_id=first, worker_id="AW_1", epoch=first, identity="agent-1")
    left = AgentLeft(
        job_id=first,
        epoch=first,
        reason=CloseReason.AGENT_ENDED,
        fault=FaultSide.NONE,
        duration_seconds=1.5,
        turns=2,
    )
    started = TurnStarted(turn=1, epoch=first, agent_id="host", user_text="hello")
    saved = TurnSaved(turn=1, epoch=first, agent_id="host", user_text="hello", assistant_text="Hello.")
    events = [
        SessionAdopted(room="lobby", user_id="ada", metadata={"order": 1}),
        joined,
        started,
        replace(joined, job_id=second, epoch=second, identity="agent-2"),
        replace(started, epoch=second),
        replace(saved, epoch=second),
        saved,
        replace(saved, turn=2, recovered=True),
        replace(started, turn=2),
        left,
        replace(started, turn=2, epoch=second),
        SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=9.5, turns=1),
        replace(saved, turn=3, epoch=second, recovered=True),
    ]
    return [session.seal(event) for event in events]


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
    caches = {projection.name: Cache() for projection in PROJECTIONS}
    for batch in deliveries:
        for projection in PROJECTIONS:
            async with database.pool.acquire() as connection:
                nowhere = Advance(projection.name, [], [], [], [])
                await apply(projection, connection, batch, nowhere, caches[projection.name])
    rows = [
        [dict(row) for row in await database.pool.fetch(f"select * from {view} order by 1, 2, 3")]
        for view in ("sessions", "turns")
    ]
    await database.close()
    return rows
