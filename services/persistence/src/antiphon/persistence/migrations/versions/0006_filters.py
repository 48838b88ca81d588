"""Filters of sessions: columns for conversation, fault and metadata, and an index for each filter.

Readers and writers of `sessions` go on: it commits in steps, and can be run again after any of them.
"""

import time
from typing import Any

from alembic import op
from sqlalchemy.exc import DBAPIError

from antiphon.persistence.sql import read_sql

revision = "0006"
down_revision = "0005"
# Code of 0005 leaves the new columns empty: rows that it writes meanwhile are not found by these filters.
compatible_from = "0005"

BATCH = 500  # sessions in one commit
LOCK_TIMEOUT = "2s"  # while the table's lock is waited for, others wait too
ATTEMPTS = 60
RETRY_SECONDS = 1.0
RETRIED = ("55P03", "40P01")  # SQLSTATE: no lock in time, a deadlock with a writer

COLUMNS = """
alter table sessions
    add column if not exists conversation_id text collate "C",
    add column if not exists fault text collate "C",
    add column if not exists metadata_terms text[] collate "C",
    alter column reason type text collate "C"
"""
INDEXES = {
    **{
        f"sessions_tenant_{column}_created_at_session_id_idx": (
            f"(tenant, {column}, created_at, session_id) where {column} is not null"
        )
        for column in ("flow_id", "conversation_id", "reason", "fault")
    },
    "sessions_metadata_terms_idx": "using gin (metadata_terms)",
}
INVALID = """
select indexrelid::regclass::text from pg_index
 where indexrelid = to_regclass($1) and not indisvalid
"""


def upgrade() -> None:
    """Add the columns, fill them from the documents of each row, and create the indexes."""
    fill = read_sql("antiphon.persistence.migrations", "versions/0006_fill_filters.sql")
    with op.get_context().autocommit_block():
        _run(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        _run(COLUMNS)
        last: Any = ""
        while last is not None:
            last = _run(fill, last, BATCH)
        # For an index only writers of the schema wait; it waits itself for every older transaction.
        _run("set lock_timeout = 0")
        for name, definition in INDEXES.items():
            _create_index(name, definition)
        _run("reset lock_timeout")


def _create_index(name: str, definition: str) -> None:
    if _run(INVALID, name) is not None:  # left by a run that was interrupted
        _run(f"drop index concurrently if exists {name}")
    _run(f"create index concurrently if not exists {name} on sessions {definition}")


def _run(statement: str, *arguments: object) -> Any:
    """Execute a statement, again if it gets no lock, and return its first value."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            result = op.get_bind().exec_driver_sql(statement, arguments)
        except DBAPIError as error:
            if attempt == ATTEMPTS or getattr(error.orig, "sqlstate", None) not in RETRIED:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return result.scalar() if result.returns_rows else None
    return None
