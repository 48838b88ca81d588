"""Which roles have which rights, and which tenant a direct reader has; two functions that run as the owner.

Roles belong to the cluster, and the owner of the tables may make none: `roles` does, and until then these
tables are empty and nothing else changes.
"""

from alembic import op

from antiphon.persistence.sql import read_sql

revision = "0010"
down_revision = "0009"
# Code of 0005 calls the same functions, and ignores the new tables.
compatible_from = "0005"

STATEMENTS = (
    """
    create table access_roles (
        kind text collate "C" not null,
        role name not null,
        constraint access_roles_pk primary key (kind)
    )
    """,
    """
    create table tenant_readers (
        role name not null,
        tenant text collate "C" not null,
        constraint tenant_readers_pk primary key (role)
    )
    """,
    # without a policy only the owner reads it: `roles` adds one by which a reader sees its own row
    "alter table tenant_readers enable row level security",
    # a role that may call it can erase a session, with a trace; nobody else needs to delete from the log
    read_sql("antiphon.persistence.migrations", "versions/0010_erase_session.sql"),
    "revoke all on function erase_session(text) from public",
    # pg_temp is searched first unless it is named: a caller's own table would be read as the owner
    "alter function projection_lag(text[]) set search_path = pg_catalog, public, pg_temp",
)


def upgrade() -> None:
    """Create the tables, and let the two functions look where callers cannot write."""
    for statement in STATEMENTS:
        op.execute(statement)
