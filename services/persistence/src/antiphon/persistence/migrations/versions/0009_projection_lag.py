"""The function `projection_lag`, which autoscalers read: they need to execute it, and no table."""

from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0009"
down_revision = "0008"
# Code of 0005 does not call it.
compatible_from = "0005"

FUNCTION = read_sql("antiphon.persistence.migrations", "versions/0009_projection_lag.sql")
OF_ITS_OWNER = "revoke all on function projection_lag(text[]) from public"


def upgrade() -> None:
    """Create the function; who may execute it is the operator's choice."""
    op.execute(FUNCTION)
    op.execute(OF_ITS_OWNER)
