"""Migrate a database to the schema that this version needs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_HERE = Path(__file__).parent


def _config(dsn: str | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    return config


def migrate(dsn: str) -> None:
    """Upgrade the database to the newest schema; safe to run again, and by several processes at once."""
    # env.py runs asyncpg in a loop of its own, and the caller may have a running loop already.
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as thread:
        thread.submit(command.upgrade, _config(dsn), "head").result()


def head() -> str:
    """Return the revision that this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError(f"no migrations in {_HERE}")
    return revision


async def current(connection: "asyncpg.pool.PoolConnectionProxy | asyncpg.Connection") -> str | None:
    """Return the revision of a database, or None if it was never migrated."""
    if await connection.fetchval("select to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("select version_num from alembic_version")
    return revision
