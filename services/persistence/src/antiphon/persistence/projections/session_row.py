"""A row of the view `sessions`: the folded session, and the columns that it is written as."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session, evolve
from antiphon.contracts.views import DETAILS, details, session_json, session_terms
from antiphon.persistence.projection import Row

MAX_CACHED_BYTES = 8_192  # of a document; a session with a larger one is read again for each batch
_DOCUMENTS = ("details", "participants", "usage")

_state = msgspec.json.Decoder(Session)
_encode = msgspec.json.Encoder().encode


def evolved(row: Row, envelope: Envelope) -> Session | None:
    """Fold an event into a row; return the state, or None if the event changes nothing."""
    known: Session = row.get("state") or Session(session_id=envelope.subject, tenant=envelope.tenant)
    state = evolve(known, envelope)
    if state is known:
        return None
    # Until its request is seen, a session is created at the time of its first event.
    created_at: datetime | None = row.get("created_at")
    row["state"] = state
    row["created_at"] = state.created_at or created_at or envelope.time
    return state


def load(record: Mapping[str, Any]) -> Row:
    """Return the row of a record."""
    return {
        "state": _state.decode(session_json(record)),
        "created_at": record["created_at"],
        "large": any(_is_large(record[name]) for name in _DOCUMENTS),
    }


def dump(row: Row, before: Row | None) -> Row:
    """Return the columns of a row, given the row before; a document that has not changed is None."""
    state: Session = row["state"]
    known: Session | None = None if before is None else before["state"]
    now = details(state)
    changed = known is None or now != details(known)
    documents = {
        "metadata": _document(known and known.metadata, state.metadata),
        "details": Raw(_encode(dict(zip(DETAILS, now, strict=True)))) if changed else None,
        "participants": _document(known and known.participants, state.participants),
        "usage": _document(known and known.usage, state.usage),
        "turns_by_epoch": _document(known and known.turns_by_epoch, state.turns_by_epoch),
    }
    terms = None if documents["metadata"] is None else session_terms(state)
    row["large"] = row.get("large", False) or any(_is_large(documents[name]) for name in _DOCUMENTS)
    return documents | {
        "session_id": state.session_id,
        "tenant": state.tenant,
        "created_at": row["created_at"],
        "flow_id": state.flow_id,
        "flow_revision": state.flow_revision,
        "user_id": state.user_id,
        "room": state.room,
        "language": state.language,
        "ended_at": state.ended_at,
        "reason": state.reason,
        "status": state.status,
        "agent_state": state.agent_state,
        "user_state": state.user_state,
        "turns": state.turns,
        "skipped": state.skipped,
        "updated_at": state.updated_at,
        "sequence": state.sequence,
        "conversation_id": state.conversation_id,
        "fault": state.fault,
        "metadata_terms": terms or (None if before is None else terms),  # null, unless others are replaced
    }


def keep(row: Row) -> Row | None:
    """Return what is cached: no event needs the metadata, and what is large is read again."""
    if row.get("large"):
        return None
    state: Session = row["state"]
    return row | {"state": replace(state, metadata={})} if state.metadata else row


def _document(before: object, now: object) -> Raw | None:
    # the fold never changes a value in place, so a document that did not change is the same object
    return None if now is before else Raw(_encode(now))


def _is_large(document: str | Raw | None) -> bool:
    if document is None:
        return False
    encoded = document.encode() if isinstance(document, str) else document
    return memoryview(encoded).nbytes > MAX_CACHED_BYTES
