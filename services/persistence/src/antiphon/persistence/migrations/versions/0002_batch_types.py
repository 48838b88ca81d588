"""One composite type for each kind of row that ingest_batch takes, instead of an array for each column."""

import sqlalchemy as sa
from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0002"
down_revision = "0001"

TYPES = (
    "create type partition_commit as (partition smallint, epoch bigint, expected bigint, reached bigint)",
    """
    create type new_event as (
        partition smallint, position bigint, session_id text, tenant text, event_id text, type text,
        version smallint, occurred_at timestamptz, envelope json
    )
    """,
    """
    create type new_dead_letter as (
        partition smallint, position bigint, subject text, payload bytea, headers json, error text
    )
    """,
)
FUNCTIONS = ("ingest_batch", "advance_projection")


def upgrade() -> None:
    """Replace the functions of revision 0001."""
    op.execute("drop function ingest_batch")
    op.execute("drop function move_projection")
    for statement in TYPES:
        op.execute(sa.text(statement))
    for name in FUNCTIONS:
        function = read_sql("antiphon.persistence.migrations", f"versions/0002_{name}.sql")
        op.execute(sa.text(function.replace(":", r"\:")))
