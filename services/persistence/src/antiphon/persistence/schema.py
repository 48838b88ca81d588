"""The tables of Postgres: the event log, the checkpoints, the dead letters and the views."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

Name = Text(collation="C")  # ids compare as bytes: no locale, and half the cost of an index
Instant = DateTime(timezone=True)
Document = JSON(none_as_null=True)  # json, not jsonb: it keeps the exact text and accepts \u0000


def required(name: str, type_: Any, *more: Any, **options: Any) -> Column[Any]:
    """Declare a column that is never null."""
    return Column(name, type_, *more, nullable=False, **options)


event_log = Table(
    "event_log",
    metadata,
    required("session_id", Name),
    required("sequence", Integer),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("tenant", Name),
    required("event_id", Name),
    required("type", Name),
    required("version", SmallInteger),
    required("occurred_at", Instant),
    required("envelope", Document),
    # Null for events from before revision 0008.
    Column("committed_at", Instant),
    Column("hash", LargeBinary),
    Column("chain", LargeBinary),
    PrimaryKeyConstraint("session_id", "sequence"),
    UniqueConstraint("partition", "position"),
    UniqueConstraint("session_id", "event_id"),
    Index(None, "tenant", "partition", "position"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    required("name", Name, primary_key=True),
    required("position", BigInteger, server_default=text("0")),
    required("epoch", BigInteger, server_default=text("0")),
    required("updated_at", Instant, server_default=func.now()),
    Column("last_event_id", Text),
    required("read_through", BigInteger, server_default=text("0")),
    Column("stream_created_at", Instant),
    Column("stopped", Text),
    Column("committed_at", Instant),
    Column("chain", LargeBinary),
    Column("chained_after", BigInteger),
    required("chained", BigInteger, server_default=text("0")),
)

projection_checkpoints = Table(
    "projection_checkpoints",
    metadata,
    required("projection", Name),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("updated_at", Instant, server_default=func.now()),
    PrimaryKeyConstraint("projection", "partition"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    required("id", BigInteger, Identity(always=True), primary_key=True),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("subject", Text),
    required("payload", LargeBinary),
    Column("headers", Document),
    required("error", Text),
    required("recorded_at", Instant, server_default=func.now()),
    UniqueConstraint("partition", "position"),
)

log_gaps = Table(
    "log_gaps",
    metadata,
    required("partition", SmallInteger),
    required("first", BigInteger),
    required("last", BigInteger),
    required("reason", Text),
    required("noticed_at", Instant, server_default=func.now()),
    PrimaryKeyConstraint("partition", "first"),
)

erased_sessions = Table(
    "erased_sessions",
    metadata,
    required("session_id", Name, primary_key=True),
    required("tenant", Name),
    required("last_sequence", Integer),
    required("erased_at", Instant, server_default=func.now()),
    Column("last_hash", LargeBinary),
)

erased_events = Table(
    "erased_events",
    metadata,
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("session_id", Name),
    required("sequence", Integer),
    required("hash", LargeBinary),
    PrimaryKeyConstraint("partition", "position"),
)

# One row: the oldest revision whose code can run with the schema (see migrations/compatibility.py).
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    required("compatible_from", Name, primary_key=True),
)

# The columns of the views are those that contracts.views declares; a test compares them.
# An update logs the bytes from the first that changed to the last: what changes most often comes last.
sessions = Table(
    "sessions",
    metadata,
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

turns = Table(
    "turns",
    metadata,
    required("session_id", Name),
    required("epoch", Name),
    required("turn", Integer),
    required("tenant", Name),
    required("agent_id", Text),
    required("state", Text),
    required("interrupted", Boolean),
    required("recovered", Boolean),
    required("occurred_at", Instant),
    required("sequence", Integer),
    required("first_sequence", Integer),
    required("tool_call_ids", Document),
    required("metrics", Document),
    Column("started_at", Instant),
    Column("user_text", Text),
    Column("assistant_text", Text),
    Column("assistant_text_generated", Text),
    Column("language", Text),
    Column("confidence", Float),
    PrimaryKeyConstraint("session_id", "epoch", "turn"),
)
