"""Which code runs with which schema: its own revision, or a newer one that declares itself compatible.

A migration that only adds what older code ignores says so in one line, `compatible_from = "0005"`: code of
that revision and later starts and restarts while the upgrade rolls out. A later migration removes what is no
longer used, and declares a newer `compatible_from`.
"""

from collections.abc import Collection

import asyncpg

UTF8_NEEDED = "what callers say needs UTF8: createdb --template template0 --encoding UTF8 NAME"

_HAS_TABLE = "select to_regclass('schema_compatibility') is not null"
_READ = "select compatible_from from schema_compatibility"


class SchemaMismatch(Exception):
    """The code cannot run with the schema of the database; the message says what to do."""


def mismatch(
    revision: str | None, compatible_from: str | None, known: Collection[str], needed: str
) -> str | None:
    """Return why code cannot run with a schema, or None if it can.

    `revision` and `compatible_from` are those of the database, `known` and `needed` those of the code. All
    are numbers of four digits, which compare as text.
    """
    if revision == needed:
        return None
    if revision is None or revision in known or revision < needed:
        return (
            f"The database is at schema revision {revision or 'none'}, this version needs {needed}: "
            "run `python -m antiphon.persistence migrate` first."
        )
    if compatible_from is None or compatible_from > needed:
        return (
            f"The database is at schema revision {revision}, for code of revision "
            f"{compatible_from or revision} and later; this version has {needed}: run a newer version."
        )
    return None


async def read_compatible_from(
    connection: "asyncpg.pool.PoolConnectionProxy | asyncpg.Connection",
) -> str | None:
    """Return what the newest migration of the database declares; None before revision 0005."""
    if not await connection.fetchval(_HAS_TABLE):
        return None
    declared: str | None = await connection.fetchval(_READ)
    return declared
