"""The view `sessions`: one row per session, the fold of its events."""

from sqlalchemy import ARRAY, Column, Index, Integer, Table, Text, text

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import FOLD_VERSION
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
from antiphon.persistence.projections import session_row

# The columns are those that contracts.views declares; a test compares them.
# An update logs the bytes from the first that changed to the last: what changes most often comes last.
TABLE = Table(
    "sessions",
    views,
    required("session_id", Name, primary_key=True),
    required("tenant", Name),
    required("created_at", Instant),
    Column("flow_id", Name),
    Column("flow_revision", Integer),
    Column("user_id", Name),
    Column("room", Name),
    Column("language", Text),
    Column("ended_at", Instant),
    Column("reason", Name),
    Column("metadata", Document),
    Column("details", Document),
    Column("participants", Document),
    Column("usage", Document),
    required("status", Name),
    Column("agent_state", Text),
    Column("user_state", Text),
    required("turns", Integer),
    Column("turns_by_epoch", Document),
    required("skipped", Integer),
    required("updated_at", Instant),
    required("sequence", Integer),
    Column("conversation_id", Name),  # these came later; like the flow and the end, they seldom change
    Column("fault", Name),
    Column("metadata_terms", ARRAY(Name)),
    Index(None, "tenant", "created_at", "session_id"),
    Index(None, "tenant", "status", "created_at", "session_id"),
    Index(None, "tenant", "user_id", "created_at", "session_id"),
    Index(None, "tenant", "room", "created_at", "session_id"),
    *(
        Index(
            None, "tenant", column, "created_at", "session_id", postgresql_where=text(f"{column} is not null")
        )
        for column in ("flow_id", "conversation_id", "reason", "fault")
    ),
    Index(None, "metadata_terms", postgresql_using="gin"),
    postgresql_with={"fillfactor": 70},  # every event updates a row: leave room to do it in place
)
SESSION = ViewTable(
    TABLE,
    load=session_row.load,
    dump=session_row.dump,
    keep=session_row.keep,
    unread=("metadata", "metadata_terms"),  # written once, and needed by no event
)
SESSIONS = Projection("sessions", SESSION, version=FOLD_VERSION, rest_seconds=0.0015)


@SESSIONS.on_any
def evolve(envelope: Envelope, rows: Rows) -> None:
    """Fold any event into its session, also one that cannot be read: it is counted."""
    row = rows(SESSION, envelope.subject)
    skipped = row["state"].skipped if "state" in row else 0
    state = session_row.evolved(row, envelope)
    if state is not None and state.skipped != skipped:
        SESSIONS.skip(envelope)
