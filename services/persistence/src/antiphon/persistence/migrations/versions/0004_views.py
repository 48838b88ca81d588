"""Views that write what changed: documents of a session apart, rooms, turns by epoch and with their start."""

from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Move the rows of both views into tables with the new columns, in the order in which they change."""
    connection = op.get_bind()
    for statement in read_sql("antiphon.persistence.migrations", "versions/0004_views.sql").split(";\n"):
        connection.exec_driver_sql(statement)
