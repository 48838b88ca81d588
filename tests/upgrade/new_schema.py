"""A plugin for the tests of the release before: their databases have the schema of this version.

It runs beside that release's own code. Each database is migrated by that code first, and then by this
version's, as during an upgrade: the schema is new, the views are those of before.
"""

import os
import subprocess
import sys

from antiphon.persistence import migrations

NEW_PATH = "ANTIPHON_UPGRADE_PATH"  # where the code of this version is
THEN = "ANTIPHON_UPGRADE_THEN"  # a statement of a migration that is to be tried as well
SECONDS = 120.0

_migrate = migrations.migrate


def migrate_twice(dsn: str, **options: float) -> str:
    """Migrate to the schema of the release before, then to that of this version."""
    revision = _migrate(dsn, **options)
    environment = {**os.environ, "PYTHONPATH": os.environ[NEW_PATH], "ANTIPHON_POSTGRES_DSN": dsn}
    command = [sys.executable, "-m", "antiphon.persistence", "migrate"]
    subprocess.run(command, env=environment, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    if statement := os.environ.get(THEN):
        _execute(dsn, statement)
    return revision


def _execute(dsn: str, statement: str) -> None:
    import asyncio

    import asyncpg

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


migrations.migrate = migrate_twice
