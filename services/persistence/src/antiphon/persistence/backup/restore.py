"""`restore`: check everything first, then Postgres in one transaction, the buckets, and the stream."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from msgspec import Struct

from antiphon.chassis import postgres
from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.backup import postgres_tools
from antiphon.persistence.backup.buckets import restore_bucket, saved
from antiphon.persistence.backup.manifest import (
    READ_BYTES,
    BackupError,
    Dump,
    Manifest,
    check_files,
    check_runnable,
    read_manifest,
)
from antiphon.persistence.backup.moment import read_progress
from antiphon.persistence.backup.stream import Refilled, restore_stream
from antiphon.persistence.backup.targets import problems_of
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, head, migrate, revisions
from antiphon.persistence.rights.declaration import ALL_ROWS, OWN_ROW, OWN_TENANT
from antiphon.persistence.settings import BackupSettings
from antiphon.persistence.streams.recreate import Refused

CONNECT_SECONDS = 5.0
ANALYZE_SECONDS = 3600.0

ROLES_AGAIN = (
    "Postgres: the database had a role for each service, and a backup has no rights: make them again with "
    "`python -m antiphon.persistence roles --apply`, in a new cluster with each --login"
)
_HAD_ROLES = "select exists (select from access_roles)"
_OUR_POLICY = re.compile(rf"\d+; \d+ \d+ POLICY public \S+ ({ALL_ROWS}|{OWN_TENANT}|{OWN_ROW}) ")

Say = Callable[[str], object]


class Restored(Struct):
    """The parts to restore, those that are restored, and the new stream, if it is one of them.

    `filled` is whether the database has the dump, even if something failed afterwards.
    """

    parts: list[str]
    done: list[str]
    stream: Refilled | None
    filled: bool = False


async def restore(
    settings: BackupSettings,
    folder: Path,
    only: Sequence[str] | None,
    *,
    overwrite: bool,
    dry_run: bool,
    say: Say,
) -> Restored:
    """Restore the parts of a backup, all that it has by default; a dry run only checks.

    Raises BackupError; the message says what was restored before.
    """
    result = Restored([], [], None)
    try:
        await _restore(settings, folder, only, result, overwrite=overwrite, dry_run=dry_run, say=say)
    except DatabaseUnavailable as error:
        raise BackupError(_with_done(f"Postgres did not answer: {error}", result)) from error
    except (BackupError, BusError, DatabaseRefused, SchemaMismatch, Refused) as error:
        raise BackupError(_with_done(str(error), result)) from error
    except POSTGRES_ERRORS as error:
        raise BackupError(_with_done(f"Postgres: {error!r}", result)) from error
    except asyncio.CancelledError:
        say(_with_done("Stopped.", result))
        raise
    return result


def _with_done(reason: str, result: Restored) -> str:
    if not result.done:
        return f"{reason}\n{'The database has the dump.' if result.filled else 'Nothing was restored.'}"
    left = ",".join(part for part in result.parts if part not in result.done)
    return (
        f"{reason}\nRestored before this: {', '.join(result.done)}. When the cause is mended, go on with "
        f"--only {left}."
    )


async def _restore(
    settings: BackupSettings,
    folder: Path,
    only: Sequence[str] | None,
    result: Restored,
    *,
    overwrite: bool,
    dry_run: bool,
    say: Say,
) -> None:
    manifest = read_manifest(folder)
    result.parts = _parts(manifest, only)
    check_runnable(manifest)
    tool = None
    if "postgres" in result.parts:
        tool = postgres_tools.find_tool("pg_restore", settings.postgres_bin)
    files = manifest.files(result.parts)
    say(f"Backup of {manifest.began_at:%Y-%m-%d %H:%M:%S} UTC, version {manifest.version}: {folder}")
    check_files(folder, files, lambda _: None)
    say(f"{len(files)} files, {sum(file.bytes for file in files) / 1e6:,.1f} MB: all checksums match")
    bus = await Bus.connect(
        settings.nats, name="persistence restore", connect_timeout_seconds=CONNECT_SECONDS
    )
    try:
        problems = await problems_of(
            manifest, folder, result.parts, settings.postgres_dsn, bus, overwrite=overwrite
        )
        if problems:
            raise BackupError(
                "\n".join(["This backup cannot be restored here:", *(f"- {p}" for p in problems)])
            )
        if dry_run:
            return
        if manifest.postgres is not None and tool is not None:
            await _fill_postgres(settings, folder, manifest.postgres, tool, say)
            result.filled = True
            await _finish_postgres(settings, manifest, manifest.postgres, say)
            result.done.append("postgres")
        if "buckets" in result.parts:
            await bus.ensure_buckets(settings.nats_replicas)
            await _restore_buckets(bus, folder, manifest, say)
            result.done.append("buckets")
        if "stream" in result.parts:
            result.stream = await _restore_stream(settings, folder, manifest, bus, say)
            result.done.append("stream")
    finally:
        await bus.close()


def _parts(manifest: Manifest, only: Sequence[str] | None) -> list[str]:
    parts = manifest.parts()
    if only is None:
        return parts
    if missing := [part for part in only if part not in parts]:
        raise BackupError(f"The backup has no {', '.join(missing)}; it has {', '.join(parts)}.")
    return [part for part in parts if part in only]


async def _fill_postgres(settings: BackupSettings, folder: Path, dump: Dump, tool: Path, say: Say) -> None:
    environment = postgres_tools.libpq_environment(settings.postgres_dsn)
    file = folder / dump.file.name
    with NamedTemporaryFile("w", prefix="antiphon-restore-") as entries:
        entries.write(await _entries(tool, file, environment))
        entries.flush()
        await _feed(tool, file, dump, environment, entries.name, say)


async def _entries(tool: Path, file: Path, environment: dict[str, str]) -> str:
    """Return the list of what is restored: all but the policies for our roles, which may not exist here."""
    chunks: list[bytes] = []
    await postgres_tools.read_output([str(tool), "--list", str(file)], environment, chunks.append)
    lines = b"".join(chunks).decode(errors="surrogateescape").splitlines(keepends=True)
    return "".join(line for line in lines if not _OUR_POLICY.match(line))


async def _feed(
    tool: Path, file: Path, dump: Dump, environment: dict[str, str], entries: str, say: Say
) -> None:
    command = [
        str(tool),
        f"--dbname={environment.get('PGDATABASE', 'postgres')}",
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--use-list={entries}",
    ]
    sent, shown = 0, 0

    def on_sent(size: int) -> None:
        nonlocal sent, shown
        sent += size
        if sent * 10 // max(dump.file.bytes, 1) > shown:
            shown = sent * 10 // max(dump.file.bytes, 1)
            say(f"Postgres: {sent / max(dump.file.bytes, 1):.0%} sent")

    await postgres_tools.feed(command, environment, _chunks(file), on_sent)


async def _finish_postgres(settings: BackupSettings, manifest: Manifest, dump: Dump, say: Say) -> None:
    from sqlalchemy.exc import DBAPIError  # it takes long to import

    if dump.revision in revisions() and dump.revision != head():
        try:
            await asyncio.to_thread(migrate, settings.postgres_dsn)
        except DBAPIError as error:
            raise BackupError(
                f"Postgres refused the migration from revision {dump.revision}: {error.orig}. Mend the "
                "cause, create an empty database, and start again."
            ) from error
        say(f"Postgres: migrated from revision {dump.revision} to {head()}")
    connection = await postgres.connect(
        settings.postgres_dsn, name="persistence restore", statement_seconds=ANALYZE_SECONDS
    )
    try:
        heads, _ = await read_progress(connection)
        pairs = zip(heads, manifest.heads, strict=True)
        if any(now.position <= saved.position and now != saved for now, saved in pairs):
            raise BackupError(
                "The ends of the chains in the restored database are not those of the manifest: the backup "
                "is not whole. Create an empty database, and use another backup."
            )
        if heads != manifest.heads:
            say("Postgres: persistence runs, and goes on with it already")
        await connection.execute("analyze")
        if await connection.fetchval(_HAD_ROLES):
            say(ROLES_AGAIN)
    finally:
        connection.terminate()
    say(f"Postgres: restored, {sum(head.events for head in heads):,} events in the hash chains")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            yield chunk


async def _restore_buckets(bus: Bus, folder: Path, manifest: Manifest, say: Say) -> None:
    for definition in saved(manifest):
        written, kept = await restore_bucket(bus, folder, definition)
        say(f"bucket {definition.name}: {written} keys written")
        if kept:
            say(f"bucket {definition.name}: {kept} keys that ended since the backup stay as they are")


async def _restore_stream(
    settings: BackupSettings, folder: Path, manifest: Manifest, bus: Bus, say: Say
) -> Refilled:
    database = await Database.connect(
        settings.postgres_dsn,
        name="persistence restore",
        max_size=3,
        connect_timeout_seconds=CONNECT_SECONDS,
    )
    try:
        refilled = await restore_stream(
            bus,
            database,
            folder,
            manifest,
            replicas=settings.nats_replicas,
            max_bytes=settings.stream_max_bytes,
        )
    finally:
        await database.close()
    say(f"stream {SESSIONS.name}: {refilled.messages} messages, from position {refilled.first} on")
    return refilled
