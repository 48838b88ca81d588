"""The oldest code that can run with the schema, so that versions can run side by side during an upgrade."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
# The oldest revision whose code can run with this schema; without this line, only code of this revision can.
compatible_from = "0005"


def upgrade() -> None:
    """Create the table; its row is written after each migration (see env.py)."""
    op.create_table(
        "schema_compatibility",
        sa.Column("compatible_from", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("compatible_from", name="schema_compatibility_pk"),
    )
