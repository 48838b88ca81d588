"""The views of analytics, filled from events as persistence does it."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import pytest

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, seal
from antiphon.contracts.event import Event
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections import PROJECTIONS

Happen = Callable[..., Awaitable[str]]


def sealed(session_id: str, tenant: str, at: datetime, events: Sequence[Event]) -> list[Envelope]:
    """Return events of one agent job as they are committed."""
    return [
        committed(
            seal(
                event,
                id=agent_event_id(session_id, "AJ_1", number),
                session_id=session_id,
                tenant=tenant,
                producer="test",
                producerseq=number,
                time=at,
            ),
            sequence=number,
            position=number,
        )
        for number, event in enumerate(events, start=1)
    ]


@pytest.fixture
def happen(database: Database) -> Happen:
    """A function that folds the events of a session into all views and returns the session's id."""

    async def fold(name: str, at: datetime, *events: Event, tenant: str = "default") -> str:
        session_id = named_session_id(tenant, name)
        log = sealed(session_id, tenant, at, events)
        async with database.pool.acquire() as connection:
            for view in PROJECTIONS:
                await apply(view, connection, log, Advance(view.name, [], [], [], []), Cache())
        return session_id

    return fold
