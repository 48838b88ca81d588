"""Filters of sessions: columns for conversation, fault and metadata, and an index for each filter."""

from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0006"
down_revision = "0005"
# Code of 0005 leaves the new columns empty: rows that it writes meanwhile are not found by these filters.
compatible_from = "0005"


def upgrade() -> None:
    """Add the columns, fill them from the documents of each row, and create the indexes."""
    connection = op.get_bind()
    for statement in read_sql("antiphon.persistence.migrations", "versions/0006_filters.sql").split(";\n"):
        connection.exec_driver_sql(statement)
