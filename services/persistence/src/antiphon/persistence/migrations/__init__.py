"""Migrate a database to the schema that this version needs."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from antiphon.persistence.migrations.compatibility import SchemaMismatch, mismatch, read_compatible_from

if TYPE_CHECKING:  # Alembic takes long to import, and only `migrate` needs it
    from alembic.config import Config

__all__ = ["SchemaMismatch", "check", "current", "head", "migrate", "revisions"]

STATEMENT_SECONDS = 3600.0  # a migration may rewrite a table
LOCK_TIMEOUT = "2s"  # while the lock of a table is waited for, its writers wait too
LOCK_ATTEMPTS = 60
LOCK_RETRY_SECONDS = 1.0
NO_LOCK = ("55P03", "40P01")  # SQLSTATE: no lock in time, a deadlock with a writer

_HERE = Path(__file__).parent


def _config(dsn: str | None = None) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    config.attributes["statement_timeout_seconds"] = STATEMENT_SECONDS
    return config


def migrate(dsn: str, *, statement_timeout_seconds: float = STATEMENT_SECONDS) -> str:
    """Upgrade the database to the newest schema and return its revision; safe to run again.

    Several processes may run it at once. A newer schema that this version can run with stays as it is.
    A table's lock is waited for in short steps: writers of the table wait behind the migration.
    Raises SchemaMismatch for one that it cannot run with.
    """
    from sqlalchemy.exc import DBAPIError

    config = _config(dsn)
    config.attributes["statement_timeout_seconds"] = statement_timeout_seconds
    attempts = 0
    while True:
        try:
            return _upgrade(config)
        except DBAPIError as error:  # what it had changed is rolled back
            attempts += 1
            if attempts == LOCK_ATTEMPTS or getattr(error.orig, "sqlstate", None) not in NO_LOCK:
                raise
            time.sleep(LOCK_RETRY_SECONDS)


def _upgrade(config: "Config") -> str:
    from alembic import command
    from sqlalchemy.exc import PendingRollbackError

    # env.py runs asyncpg in a loop of its own, and the caller may have a running loop already.
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as thread:
        try:
            thread.submit(command.upgrade, config, "head").result()
        except PendingRollbackError as error:  # SQLAlchemy's, after the connection broke
            raise _first(error) from error
    return str(config.attributes["revision"])


def _first(error: BaseException) -> BaseException:
    from sqlalchemy.exc import DBAPIError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__context__
    return cause or error


def revisions() -> set[str]:
    """Return the revisions of the migrations that this code has: the first four digits of their files."""
    return {path.name[:4] for path in (_HERE / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")}


def head() -> str:
    """Return the revision that this code needs."""
    return max(revisions())


async def current(connection: "asyncpg.pool.PoolConnectionProxy | asyncpg.Connection") -> str | None:
    """Return the revision of a database, or None if it was never migrated."""
    if await connection.fetchval("select to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("select version_num from alembic_version")
    return revision


async def check(connection: "asyncpg.pool.PoolConnectionProxy | asyncpg.Connection") -> str:
    """Return the revision of a database that this code can run with.

    Raises SchemaMismatch.
    """
    revision = await current(connection)
    problem = mismatch(revision, await read_compatible_from(connection), revisions(), head())
    if problem is not None:
        raise SchemaMismatch(problem)
    return str(revision)
