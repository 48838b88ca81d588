"""What a backup would be restored into: everything that speaks against it, before anything is changed."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from antiphon.chassis import postgres
from antiphon.chassis.bus import Bus, replace
from antiphon.chassis.database import REFUSED, DatabaseRefused, translate_errors
from antiphon.chassis.postgres_dsn import current_dsn
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.backup.buckets import compare, deployment_id, saved
from antiphon.persistence.backup.manifest import Manifest
from antiphon.persistence.migrations import check
from antiphon.persistence.migrations.compatibility import UTF8_NEEDED

CONNECT_SECONDS = 10.0

_TABLES = """
select count(*) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
 where relkind in ('r', 'p', 'v', 'm') and nspname not like 'pg\\_%' and nspname <> 'information_schema'
   and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'e')  -- of an extension
"""


async def problems_of(
    manifest: Manifest, folder: Path, parts: Sequence[str], dsn: str, bus: Bus, *, overwrite: bool
) -> list[str]:
    """Return why the parts of a backup cannot be restored, with what to do; empty if they can be.

    Raises BackupError, SchemaMismatch, DatabaseRefused, the errors of the bus and any of POSTGRES_ERRORS.
    """
    found = await _database_problems(dsn, parts)
    found += await _bucket_problems(manifest, folder, parts, bus, overwrite)
    if "stream" in parts and (problem := await _stream_problem(bus)) is not None:
        found.append(problem)
    return found


async def _database_problems(dsn: str, parts: Sequence[str]) -> list[str]:
    try:
        with translate_errors():
            connection = await postgres.connect(
                dsn, name="persistence restore", connect_seconds=CONNECT_SECONDS
            )
    except asyncpg.InvalidCatalogNameError:
        return [f"the database {_name_of(dsn)} does not exist: create it, empty, and run this again"]
    except REFUSED as error:
        raise DatabaseRefused(f"check ANTIPHON_POSTGRES_DSN: {error}") from error
    try:
        if "postgres" not in parts:
            if "stream" in parts:
                await check(connection)  # the stream is restored after what the log has
            return []
        tables = await connection.fetchval(_TABLES)
        encoding = await connection.fetchval("show server_encoding")
    finally:
        connection.terminate()
    if encoding != "UTF8":
        return [f"the database {_name_of(dsn)} has the encoding {encoding}: {UTF8_NEEDED}"]
    if tables:
        text = (
            f"the database {_name_of(dsn)} is not empty ({tables} tables and views): restore into a new one"
        )
        return [f"{text}; if its content is to be replaced, drop and create it first (dropdb, createdb)"]
    return []


def _name_of(dsn: str) -> str:
    return current_dsn(dsn).partition("?")[0].rpartition("/")[2] or "of the DSN"


async def _bucket_problems(
    manifest: Manifest, folder: Path, parts: Sequence[str], bus: Bus, overwrite: bool
) -> list[str]:
    if "buckets" not in parts:
        here = await deployment_id(bus)
        if here is not None and manifest.deployment is not None and here != manifest.deployment:
            text = (
                f"the backup is of deployment {manifest.deployment}, and the broker holds {here}: another one"
            )
            return [f"{text}. Check ANTIPHON_NATS_URL, or restore the buckets as well"]
        return []
    if overwrite:
        return []
    found = []
    for definition in saved(manifest):
        difference = await compare(bus, folder, definition)
        if difference.differs:
            found.append(
                f"{difference}. Add --overwrite to give them the values of the backup, and restart every "
                "service afterwards"
            )
    return found


async def _stream_problem(bus: Bus) -> str | None:
    state = await bus.stream_state()
    if state is None or state.messages == 0 or replace.in_progress(state):
        return None
    return (
        f"the stream {SESSIONS.name} exists, with positions {state.first} to {state.last}: what it has is "
        "newer than the backup. Leave it out (--only postgres,buckets): ingest reads from it what the log "
        "of the backup does not have"
    )
