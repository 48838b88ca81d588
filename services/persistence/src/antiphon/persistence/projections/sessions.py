"""The sessions view: one row per session, the fold of its events."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session, evolve
from antiphon.contracts.views import (
    STATE_COLUMNS,
    TERM_SEPARATOR,
    details,
    details_json,
    metadata_terms,
    session_json,
)
from antiphon.persistence.projection import Cache, Columns, Projection, transpose
from antiphon.persistence.projections.skipped import SkippedEvents
from antiphon.persistence.sql import indexable_or_none, instant, read_sql, storable_or_none

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

# Metadata is written once and needed by no event: it is neither read again nor cached.
_COLUMNS = ", ".join(column for column in STATE_COLUMNS if column != "metadata")
_READ = f"select created_at, null as metadata, {_COLUMNS} from sessions where session_id = any($1)"

MAX_CACHED_CHARACTERS = 8_192  # of a document; a session with a longer one is read again for each batch
_CACHED_DOCUMENTS = ("details", "participants", "usage")
_WRITTEN_DOCUMENTS = slice(13, 16)  # their places in `_values`

_state = msgspec.json.Decoder(Session)
_encode = msgspec.json.Encoder().encode

Row = tuple[Session, datetime]  # the state, and when the session was created

skipped = SkippedEvents("sessions")


async def columns(connection: "Connection", envelopes: Sequence[Envelope], cache: Cache) -> Columns:
    """Fold events into the rows of their sessions; rows that are not cached are read from the view."""
    unknown = {envelope.subject for envelope in envelopes} - cache.keys()
    large = set()
    if unknown:
        for row in await connection.fetch(_READ, list(unknown)):
            cache[row["session_id"]] = _state.decode(session_json(row)), row["created_at"]
            if _is_large(row[name] for name in _CACHED_DOCUMENTS):
                large.add(row["session_id"])
    changed = fold(cache, envelopes)
    written = [_values(cache.get(session_id), row) for session_id, row in changed.items()]
    for values, (session_id, (state, created_at)) in zip(written, changed.items(), strict=True):
        if _is_large(values[_WRITTEN_DOCUMENTS]):
            large.add(session_id)
        cache[session_id] = replace(state, metadata={}) if state.metadata else state, created_at
    for session_id in large:
        del cache[session_id]
    return transpose(written)


def _is_large(documents: Iterable[Any]) -> bool:
    for document in documents:  # noqa: SIM110 - any() of a generator costs twice as much, for every row
        if document is not None and len(document) > MAX_CACHED_CHARACTERS:
            return True
    return False


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
            if evolved.skipped != state.skipped:
                skipped.add(envelope)
    skipped.log()
    return changed


def _values(known: Row | None, row: Row) -> tuple[object, ...]:
    state, created_at = row
    before = None if known is None else known[0]
    now = details(state)
    changed = before is None or now != details(before)
    return (
        state.session_id,
        state.tenant,
        instant(created_at),
        *(_filters(state) if changed else _UNCHANGED_FILTERS),
        _document(before and before.metadata, state.metadata),
        details_json(now) if changed else None,
        _document(before and before.participants, state.participants),
        _document(before and before.usage, state.usage),
        state.status,
        state.agent_state,
        state.user_state,
        state.turns,
        _document(before and before.turns_by_epoch, state.turns_by_epoch),
        state.skipped,
        state.updated_at and instant(state.updated_at),
        state.sequence,
        _terms(before and before.metadata, state.metadata),
    )


def _terms(before: object, now: dict[str, Any]) -> str | None:
    if now is before or not now:
        return None
    return TERM_SEPARATOR.join(metadata_terms(now)) or None


def _filters(state: Session) -> tuple[object, ...]:
    """Return the columns to filter by; they are written whenever `details` is, which has them in full."""
    return (
        indexable_or_none(state.flow_id),
        state.flow_revision,
        indexable_or_none(state.user_id),
        indexable_or_none(state.room),
        storable_or_none(state.language),
        state.ended_at and instant(state.ended_at),
        storable_or_none(state.reason),
        indexable_or_none(state.conversation_id),
        storable_or_none(state.fault),
    )


_UNCHANGED_FILTERS = (None,) * 9


def _document(before: object, now: object) -> str | None:
    # the fold never changes a value in place, so a document that did not change is the same object
    return None if now is before else _encode(now).decode()


SESSIONS = Projection("sessions", columns, write=read_sql(__package__, "sessions.sql"))
