"""The sessions view: one row per session, the fold of its events."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session, evolve
from antiphon.persistence.projection import Cache, Columns, Projection, transpose
from antiphon.persistence.sql import indexable, read_sql, storable, storable_or_none

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_READ = "select session_id, created_at, state from sessions where session_id = any($1)"

_state = msgspec.json.Decoder(Session)

Row = tuple[Session, datetime]  # the state, and when the session was created


async def columns(connection: "Connection", envelopes: Sequence[Envelope], cache: Cache) -> Columns:
    """Fold events into the rows of their sessions; rows that are not cached are read from the view."""
    unknown = {envelope.subject for envelope in envelopes} - cache.keys()
    if unknown:
        for session_id, created_at, state in await connection.fetch(_READ, list(unknown)):
            cache[session_id] = _state.decode(state), created_at
    changed = fold(cache, envelopes)
    cache.update(changed)
    return transpose(_values(*row) for row in changed.values())


def fold(rows: Mapping[str, Row], envelopes: Iterable[Envelope]) -> dict[str, Row]:
    """Return the rows that these events change, given the rows before."""
    changed: dict[str, Row] = {}
    for envelope in envelopes:
        session_id = envelope.subject
        row = changed.get(session_id) or rows.get(session_id)
        # Until its request is seen, a session is created at the time of its first event.
        state, created_at = row or (Session(session_id=session_id, tenant=envelope.tenant), envelope.time)
        evolved = evolve(state, envelope)
        if evolved is not state:
            changed[session_id] = (evolved, evolved.created_at or created_at)
    return changed


def _values(state: Session, created_at: datetime) -> tuple[object, ...]:
    return (
        state.session_id,
        state.tenant,
        state.status,
        storable(state.flow_id or ""),
        state.flow_revision or 0,
        indexable(state.user_id or ""),
        created_at,
        state.updated_at,
        state.turns,
        state.sequence,
        msgspec.json.encode(state).decode(),
        storable_or_none(state.language),
        state.ended_at,
        storable_or_none(state.reason),
    )


SESSIONS = Projection("sessions", columns, write=read_sql(__package__, "sessions.sql"))
