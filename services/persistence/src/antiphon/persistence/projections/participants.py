"""The view `participants`: one row per stay of a participant in a session's room, by its sid."""

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.participant import (
    ParticipantConnected,
    ParticipantDisconnected,
    ParticipantNameChanged,
)
from antiphon.contracts.events.session import SessionClosed, SessionFailed
from antiphon.persistence.projection import (
    Document,
    Instant,
    Name,
    Projection,
    Rows,
    ViewTable,
    required,
    views,
)

MAX_STAYS = 100  # of one session; of more, the end does not end the oldest

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
SESSIONS_TABLE = Table(
    "participants_sessions",
    views,
    required("session_id", Name, primary_key=True),
    Column("sids", Document, default=()),  # of its participants
)
PARTICIPANT, SESSION = ViewTable(TABLE), ViewTable(SESSIONS_TABLE)
PARTICIPANTS = Projection("participants", PARTICIPANT, SESSION, version=2)


@PARTICIPANTS.on(ParticipantConnected)
def connected(event: ParticipantConnected, envelope: Envelope, rows: Rows) -> None:
    """Begin a stay, or go on with it: each agent that joins reports whom it finds in the room."""
    row = rows(PARTICIPANT, envelope.subject, event.sid)
    if row.get("left_at") is not None:
        row["reconnects"] += 1
    row.update(tenant=envelope.tenant, identity=event.identity, kind=event.kind)
    row.update(name=event.name or row.get("name"), joined_at=row.get("joined_at") or envelope.time)
    row.update(left_at=None, reason=None)
    session = rows(SESSION, envelope.subject)
    if row["sid"] not in session["sids"]:
        session["sids"] = [*session["sids"], row["sid"]][-MAX_STAYS:]


@PARTICIPANTS.on(ParticipantDisconnected)
def disconnected(event: ParticipantDisconnected, envelope: Envelope, rows: Rows) -> None:
    """End a stay; of one whose start was not seen, `joined_at` stays null."""
    row = rows(PARTICIPANT, envelope.subject, event.sid)
    row.update(tenant=envelope.tenant, identity=event.identity, kind=event.kind)
    row.update(left_at=envelope.time, reason=event.reason)


@PARTICIPANTS.on(SessionClosed, SessionFailed)
def ended(event: SessionClosed | SessionFailed, envelope: Envelope, rows: Rows) -> None:
    """End all stays with the session; nobody records who leaves the room after it."""
    sids = rows(SESSION, envelope.subject)["sids"]
    for row in rows.several(PARTICIPANT, [(envelope.subject, sid) for sid in sids]):
        row["left_at"] = row["left_at"] or envelope.time


@PARTICIPANTS.on(ParticipantNameChanged)
def renamed(event: ParticipantNameChanged, envelope: Envelope, rows: Rows) -> None:
    """Show the newest name of a participant whose stay is known."""
    if rows.find(PARTICIPANT, envelope.subject, event.sid) is not None:
        rows(PARTICIPANT, envelope.subject, event.sid)["name"] = event.name
