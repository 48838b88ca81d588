"""What ingest read last and of which stream, the gaps of the log, and the sequences of erased sessions."""

import sqlalchemy as sa
from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0003"
down_revision = "0002"

NAME = sa.Text(collation="C")
INSTANT = sa.DateTime(timezone=True)

FUNCTIONS = ("ingest_batch", "erase_session")

# The last message of a partition was an event, a dead letter, or a duplicate, of which nothing is known.
LAST_EVENTS = """
update checkpoints
   set last_event_id = coalesce(
           (select event_id from event_log
             where name = 'ingest:' || partition and event_log.position = checkpoints.position),
           (select 'sha256:' || encode(sha256(payload), 'hex') from dead_letters
             where name = 'ingest:' || partition and dead_letters.position = checkpoints.position)),
       read_through = position
"""


def upgrade() -> None:
    """Add columns and tables, and replace `ingest_batch`; a replica of the last version goes on working."""
    for column in (
        sa.Column("last_event_id", sa.Text),
        sa.Column("read_through", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("stream_created_at", INSTANT),
        sa.Column("stopped", sa.Text),
    ):
        op.add_column("checkpoints", column)
    op.create_table(
        "log_gaps",
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("noticed_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("partition", "first", name="log_gaps_pk"),
    )
    op.create_table(
        "erased_sessions",
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("last_sequence", sa.Integer, nullable=False),
        sa.Column("erased_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("session_id", name="erased_sessions_pk"),
    )
    op.execute(LAST_EVENTS)
    op.execute("drop function ingest_batch")
    for name in FUNCTIONS:
        function = read_sql("antiphon.persistence.migrations", f"versions/0003_{name}.sql")
        op.execute(sa.text(function.replace(":", r"\:")))
