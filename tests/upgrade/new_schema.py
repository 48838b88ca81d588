"""A plugin for the tests of the previous release: their databases have the schema of this version.

Loaded with `-p new_schema` beside the previous release's own code. Each database is migrated by that code first
and then by this version, as during an upgrade: the schema is new, the views are those of before.
"""

import os
import subprocess
import sys

from antiphon.persistence import migrations

NEW_PATH = "ANTIPHON_UPGRADE_PATH"  # where the code of this version is
SECONDS = 120.0

_migrate = migrations.migrate


def migrate_twice(dsn: str, **options: float) -> str:
    """Migrate to the schema of the previous release, then to that of this version."""
    revision = _migrate(dsn, **options)
    environment = {**os.environ, "PYTHONPATH": os.environ[NEW_PATH], "ANTIPHON_POSTGRES_DSN": dsn}
    subprocess.run(
        [sys.executable, "-m", "antiphon.persistence", "migrate"],
        env=environment,
        check=True,
        timeout=SECONDS,
        stdout=subprocess.DEVNULL,
    )
    return revision


migrations.migrate = migrate_twice
