"""An event writes what it changes, not what its session holds: bytes of WAL, compared in one run."""

from collections.abc import Awaitable, Callable
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.session import fold
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections.sessions import SESSIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession
    from tests.persistence.projections.conftest import View

STATES = (
    AgentStateChanged(old_state="speaking", new_state="listening"),
    AgentStateChanged(old_state="listening", new_state="speaking"),
)
EVENTS = 30
NOWHERE = Advance("sessions", [], [], [], [])

Write = Callable[[Any, Envelope], Awaitable[object]]


async def test_the_wal_of_an_event_does_not_grow_with_the_metadata(
    view: "View", database: Database, new_session: "NewSession"
) -> None:
    # Random digits, which TOAST cannot compress to nothing.
    large = {"order": "".join(str(n * n) for n in range(9_000))[:64_000]}
    of_small = await _wal(database, _call(view, new_session("small"), {"order": 1}), _project(Cache()))
    of_large = await _wal(database, _call(view, new_session("large"), large), _project(Cache()))

    assert of_large <= 1.5 * of_small


async def test_the_wal_of_an_event_is_a_fraction_of_the_state(
    view: "View", database: Database, new_session: "NewSession"
) -> None:
    await database.pool.execute("create table whole (id text primary key, state json) with (fillfactor = 70)")
    whole = await _wal(database, _call(view, new_session("whole"), {"order": 1}), _rewrite_the_state())
    projected = await _wal(database, _call(view, new_session("projected"), {"order": 1}), _project(Cache()))

    assert projected <= 0.5 * whole


def _call(view: "View", session: "SampleSession", metadata: dict[str, Any]) -> list[Envelope]:
    """Return a call that ends with EVENTS changes of the agent's state."""
    request = SessionRequested(flow_id="booking", flow_revision=1, user_id="u1", room="r", metadata=metadata)
    beginning = [session.seal(request), *session.whole_call(turns=4)[1:-1]]
    return view.committed(beginning + [session.seal(STATES[n % 2]) for n in range(EVENTS)])


def _project(cache: Cache) -> Write:
    async def project(connection: Any, envelope: Envelope) -> None:
        await apply(SESSIONS, connection, [envelope], NOWHERE, cache)

    return project


def _rewrite_the_state() -> Write:
    """Return the plain way to compare with: one document per session, written whole by each event."""
    seen: list[Envelope] = []

    async def rewrite(connection: Any, envelope: Envelope) -> None:
        seen.append(envelope)
        state = msgspec.json.encode(fold(envelope.subject, envelope.tenant, seen)).decode()
        await connection.execute(
            "insert into whole values ($1, $2) on conflict (id) do update set state = excluded.state",
            envelope.subject,
            state,
        )

    return rewrite


async def _wal(database: Database, log: list[Envelope], write: Write) -> float:
    """Write each event on its own; return the median of the bytes of the last EVENTS ones."""
    sizes = []
    async with database.pool.acquire() as connection:
        for envelope in log:
            before = await connection.fetchval("select pg_current_wal_insert_lsn()")
            await write(connection, envelope)
            size = await connection.fetchval("select pg_current_wal_insert_lsn() - $1::pg_lsn", before)
            sizes.append(int(size))
    return median(sizes[-EVENTS:])
