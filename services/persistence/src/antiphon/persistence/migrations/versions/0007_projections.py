"""Views with a version, checkpoints with an epoch, stalled views, and events that were skipped."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

from antiphon.persistence.sql import read_sql

revision = "0007"
down_revision = "0006"
# Code of 0005 goes on writing both views, until one of them is built in a newer version.
compatible_from = "0005"

NAME = sa.Text(collation="C")
INSTANT = sa.DateTime(timezone=True)

FUNCTIONS = ("advance_projection", "advance_view")


def upgrade() -> None:
    """Add tables and columns; the views of before are version 1."""
    op.create_table(
        "projections",
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("tables", sa.ARRAY(NAME), nullable=False),
        sa.Column("built_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="projections_pk"),
    )
    op.execute(
        "insert into projections (name, version, tables)"
        " values ('sessions', 1, '{sessions}'), ('turns', 1, '{turns}')"
    )
    op.add_column(
        "projection_checkpoints",
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.add_column("projection_checkpoints", sa.Column("stalled", JSON))
    op.create_table(
        "projection_skips",
        sa.Column("projection", NAME, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("event_id", NAME, nullable=False),
        sa.Column("type", NAME, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("skipped_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("projection", "partition", "position", name="projection_skips_pk"),
    )
    for name in FUNCTIONS:
        function = read_sql("antiphon.persistence.migrations", f"versions/0007_{name}.sql")
        op.execute(sa.text(function.replace(":", r"\:")))
