"""Hash chains over the event log, the time of each commit, and an index for the events of a tenant.

Readers and writers of the log go on: it commits in steps, and can be run again after any of them. Events of
before keep empty columns; ingest of whichever version fills them from now on, as `ingest_batch` is replaced.
"""

from alembic import op

from antiphon.persistence.migrations.online import alter, create_index
from antiphon.persistence.sql import read_sql

revision = "0008"
down_revision = "0007"
# Code of 0005 calls the same functions, and ignores the new columns.
compatible_from = "0005"

TABLES = (
    """
    alter table event_log
        add column if not exists committed_at timestamptz,
        add column if not exists hash bytea,
        add column if not exists chain bytea
    """,
    """
    alter table checkpoints
        add column if not exists committed_at timestamptz,
        add column if not exists chain bytea,
        add column if not exists chained_after bigint,
        add column if not exists chained bigint not null default 0
    """,
    "alter table erased_sessions add column if not exists last_hash bytea",
    """
    create table if not exists erased_events (
        partition smallint not null,
        position bigint not null,
        session_id text collate "C" not null,
        sequence integer not null,
        hash bytea not null,
        constraint erased_events_pk primary key (partition, position)
    )
    """,
)


def read(name: str) -> str:
    """Return the text of a .sql file of this revision."""
    return read_sql("antiphon.persistence.migrations", f"versions/0008_{name}.sql")


CHAIN = read("chain").split(";\n\n")
FUNCTIONS = ("erase_session", "ingest_batch")


def upgrade() -> None:
    """Add the columns, replace the functions that write them, and create the index."""
    with op.get_context().autocommit_block():
        alter(*TABLES, *CHAIN, *map(read, FUNCTIONS))
        create_index("event_log_tenant_partition_position_idx", "event_log (tenant, partition, position)")
