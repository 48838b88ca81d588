"""The view `participants`: one row per stay of a participant in a session's room, by its sid."""

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.participant import (
    ParticipantConnected,
    ParticipantDisconnected,
    ParticipantNameChanged,
)
from antiphon.persistence.projection import Instant, Name, Projection, Rows, ViewTable, required, views

TABLE = Table(
    "participants",
    views,
    required("session_id", Name),
    required("sid", Name),
    required("tenant", Name),
    required("identity", Name),
    required("kind", Text),
    Column("name", Text),
    Column("joined_at", Instant),
    Column("left_at", Instant),
    Column("reason", Text),
    required("reconnects", Integer, default=0),
    PrimaryKeyConstraint("session_id", "sid"),
    Index(None, "tenant", "identity"),
)
PARTICIPANT = ViewTable(TABLE)
PARTICIPANTS = Projection("participants", PARTICIPANT)


@PARTICIPANTS.on(ParticipantConnected)
def connected(event: ParticipantConnected, envelope: Envelope, rows: Rows) -> None:
    """Begin a stay, or go on with it: each agent that joins reports whom it finds in the room."""
    row = rows(PARTICIPANT, envelope.subject, event.sid)
    if row.get("left_at") is not None:
        row["reconnects"] += 1
    row.update(
        tenant=envelope.tenant,
        identity=event.identity,
        kind=event.kind,
        name=event.name or row.get("name"),
        joined_at=row.get("joined_at") or envelope.time,
        left_at=None,
        reason=None,
    )


@PARTICIPANTS.on(ParticipantDisconnected)
def disconnected(event: ParticipantDisconnected, envelope: Envelope, rows: Rows) -> None:
    """End a stay; of one whose start was not seen, `joined_at` stays null."""
    row = rows(PARTICIPANT, envelope.subject, event.sid)
    row.update(
        tenant=envelope.tenant,
        identity=event.identity,
        kind=event.kind,
        left_at=envelope.time,
        reason=event.reason,
    )


@PARTICIPANTS.on(ParticipantNameChanged)
def renamed(event: ParticipantNameChanged, envelope: Envelope, rows: Rows) -> None:
    """Show the newest name of a participant whose stay is known."""
    if rows.find(PARTICIPANT, envelope.subject, event.sid) is not None:
        rows(PARTICIPANT, envelope.subject, event.sid)["name"] = event.name
