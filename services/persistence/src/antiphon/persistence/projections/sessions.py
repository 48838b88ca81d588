"""The sessions view: each session as its events have made it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session, evolve
from antiphon.persistence.projection import Columns, Memory, Projection, transposed
from antiphon.persistence.sql import indexable, read_sql, text, text_or_null

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_READ = "select session_id, created_at, state from sessions where session_id = any($1)"

_state = msgspec.json.Decoder(Session)

Row = tuple[Session, datetime]  # a state, and when the session was created


async def columns(connection: "Connection", envelopes: Sequence[Envelope], memory: Memory) -> Columns:
    """Fold events into the rows of their sessions."""
    unknown = {envelope.subject for envelope in envelopes} - memory.keys()
    if unknown:
        for session_id, created_at, state in await connection.fetch(_READ, list(unknown)):
            memory[session_id] = _state.decode(state), created_at
    changed = fold(memory, envelopes)
    memory.update(changed)
    return transposed(_values(*row) for row in changed.values())


def fold(known: Mapping[str, Row], envelopes: Iterable[Envelope]) -> dict[str, Row]:
    """Return the rows that these events change, given those that are known."""
    changed: dict[str, Row] = {}
    for envelope in envelopes:
        session_id = envelope.subject
        row = changed.get(session_id) or known.get(session_id)
        # Until the request itself is seen, a session counts from the first that was heard of it.
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
        text(state.flow_id),
        state.flow_revision,
        indexable(state.user_id),
        created_at,
        state.updated_at,
        state.turns,
        state.sequence,
        msgspec.json.encode(state).decode(),
        text_or_null(state.language),
        state.ended_at,
        text_or_null(state.reason),
    )


SESSIONS = Projection("sessions", columns, write=read_sql(__package__, "sessions.sql"))
