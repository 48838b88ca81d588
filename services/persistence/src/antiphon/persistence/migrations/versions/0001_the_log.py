"""The event log, its checkpoints and dead letters, and the first two views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

from antiphon.persistence.sql import read_sql

revision = "0001"
down_revision = None

NAME = sa.Text(collation="C")
INSTANT = sa.DateTime(timezone=True)

FUNCTIONS = ("refuse_tenant", "ingest_batch", "move_projection")


def upgrade() -> None:
    """Create the tables, and the functions that write them."""
    _event_log()
    _checkpoints()
    _dead_letters()
    _sessions()
    _turns()
    for name in FUNCTIONS:
        function = read_sql("antiphon.persistence.migrations", f"versions/0001_{name}.sql")
        op.execute(sa.text(function.replace(":", r"\:")))


def _event_log() -> None:
    op.create_table(
        "event_log",
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("event_id", NAME, nullable=False),
        sa.Column("type", NAME, nullable=False),
        sa.Column("version", sa.SmallInteger, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("envelope", JSON, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "sequence", name="event_log_pk"),
        sa.UniqueConstraint("partition", "position", name="event_log_partition_position_key"),
        sa.UniqueConstraint("session_id", "event_id", name="event_log_session_id_event_id_key"),
    )


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("name", NAME, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("updated_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="checkpoints_pk"),
    )
    op.create_table(
        "projection_checkpoints",
        sa.Column("projection", NAME, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("projection", "partition", name="projection_checkpoints_pk"),
    )


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("headers", JSON),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="dead_letters_pk"),
        sa.UniqueConstraint("partition", "position", name="dead_letters_partition_position_key"),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("flow_id", NAME, nullable=False),
        sa.Column("flow_revision", sa.Integer, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("state", JSON, nullable=False),
        sa.Column("language", sa.Text),
        sa.Column("ended_at", INSTANT),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("session_id", name="sessions_pk"),
        postgresql_with={"fillfactor": 70},
    )
    for column in ("status", "user_id", None):
        columns = [name for name in ("tenant", column, "created_at", "session_id") if name]
        op.create_index(f"sessions_{'_'.join(columns)}_idx", "sessions", columns)


def _turns() -> None:
    op.create_table(
        "turns",
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("interrupted", sa.Boolean, nullable=False),
        sa.Column("recovered", sa.Boolean, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("tool_call_ids", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("user_text", sa.Text),
        sa.Column("assistant_text", sa.Text),
        sa.Column("assistant_text_generated", sa.Text),
        sa.Column("language", sa.Text),
        sa.Column("confidence", sa.Float),
        sa.PrimaryKeyConstraint("session_id", "turn", name="turns_pk"),
    )
