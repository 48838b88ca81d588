"""Change a table that is in use: wait for its lock in short steps, and create indexes concurrently.

For migrations that commit in steps (`autocommit_block`) and can be run again after any of them.
"""

import time
from typing import Any

from alembic import op
from sqlalchemy.exc import DBAPIError

from antiphon.persistence.migrations import LOCK_ATTEMPTS, LOCK_RETRY_SECONDS, LOCK_TIMEOUT, NO_LOCK

_INVALID = """
select indexrelid::regclass::text from pg_index
 where indexrelid = to_regclass($1) and not indisvalid
"""


def alter(*statements: str) -> None:
    """Execute statements that lock a table for a moment, each again while it gets no lock."""
    execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
    for statement in statements:
        execute(statement)
    execute("reset lock_timeout")


def create_index(name: str, definition: str) -> None:
    """Create an index while its table is read and written; one that an interrupted run left is replaced."""
    # Only writers of the schema wait for it; it waits itself for every older transaction.
    execute("set lock_timeout = 0")
    if execute(_INVALID, name) is not None:
        execute(f"drop index concurrently if exists {name}")
    execute(f"create index concurrently if not exists {name} on {definition}")
    execute("reset lock_timeout")


def execute(statement: str, *arguments: object) -> Any:
    """Execute a statement, again if it gets no lock, and return its first value."""
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            result = op.get_bind().exec_driver_sql(statement, arguments)
        except DBAPIError as error:
            if attempt == LOCK_ATTEMPTS or getattr(error.orig, "sqlstate", None) not in NO_LOCK:
                raise
            time.sleep(LOCK_RETRY_SECONDS)
        else:
            return result.scalar() if result.returns_rows else None
    return None
