"""`backup`: first the log, then what refers to nothing later, and the stream last.

So every flow that the log names is in the buckets, and everything that the stream had acknowledged when the
backup ends is in it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.database import DatabaseRefused, DatabaseUnavailable
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.backup import postgres_tools
from antiphon.persistence.backup.buckets import deployment_id, write_buckets
from antiphon.persistence.backup.folder import Draft, new_backup, publish
from antiphon.persistence.backup.manifest import FORMAT, BackupError, Dump, Manifest
from antiphon.persistence.backup.moment import Moment, moment
from antiphon.persistence.backup.tail import write_tail
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch
from antiphon.persistence.settings import BackupSettings

CONNECT_SECONDS = 5.0
LOCK_SECONDS = 60  # for pg_dump to get its locks, which a migration holds
SHOWN_EVERY_SECONDS = 5.0
DUMP = "postgres.dump"

Say = Callable[[str], object]


async def back_up(settings: BackupSettings, target: Path, parts: Sequence[str], say: Say) -> Manifest:
    """Write a backup into a new folder; a backup that fails or is interrupted leaves none.

    Raises BackupError.
    """
    began_at = datetime.now(UTC)
    try:
        with new_backup(target) as draft:
            manifest = await _write(settings, draft, parts, began_at, say)
            publish(draft, target, manifest)
            return manifest
    except TimeoutError as error:
        raise BackupError(f"Postgres: {error!r}") from error
    except OSError as error:
        raise BackupError(
            f"The backup cannot be written to {target}: {error.strerror or error}. Nothing was left there."
        ) from error
    except DatabaseUnavailable as error:
        raise BackupError(f"Postgres does not answer: {error}") from error
    except (BusError, DatabaseRefused, SchemaMismatch) as error:
        raise BackupError(str(error)) from error
    except POSTGRES_ERRORS as error:
        raise BackupError(f"Postgres: {error!r}") from error


async def _write(
    settings: BackupSettings, draft: Draft, parts: Sequence[str], began_at: datetime, say: Say
) -> Manifest:
    tool = None
    if "postgres" in parts:  # before anything is asked for
        tool = postgres_tools.find_tool("pg_dump", settings.postgres_bin)
    bus = await Bus.connect(settings.nats, name="persistence backup", connect_timeout_seconds=CONNECT_SECONDS)
    try:
        async with moment(settings.postgres_dsn) as now:
            dump = None if tool is None else await _dump(settings, draft, tool, now, say)
        buckets = await write_buckets(bus, draft) if "buckets" in parts else None
        if buckets is not None:
            say(f"buckets: {sum(file.entries for file in buckets)} keys in {len(buckets)} buckets")
        tail = await write_tail(bus, draft, now.read_through) if "stream" in parts else None
        if tail is not None:
            say(f"stream: {tail.file.entries} messages that are not in the log of this backup")
        elif "stream" in parts:
            say("stream: it does not exist; run `python -m antiphon.persistence streams status`")
        return Manifest(
            format=FORMAT,
            version=version("antiphon-persistence"),
            began_at=began_at,
            ended_at=datetime.now(UTC),
            partitions=PARTITIONS,
            deployment=await deployment_id(bus),
            read_through=now.read_through,
            heads=now.heads,
            postgres=dump,
            buckets=buckets,
            stream=tail,
        )
    finally:
        await bus.close()


async def _dump(settings: BackupSettings, draft: Draft, tool: Path, now: Moment, say: Say) -> Dump:
    tool_version = await postgres_tools.tool_version(tool)
    environment = postgres_tools.libpq_environment(settings.postgres_dsn)
    command = [
        str(tool),
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--snapshot={now.snapshot}",
        f"--lock-wait-timeout={LOCK_SECONDS}s",
    ]
    with draft.file(DUMP) as file:
        showing = asyncio.create_task(
            _show(lambda: f"Postgres: {file.bytes / 1e6:,.1f} MB so far", say), name="progress of the dump"
        )
        try:
            await postgres_tools.read_output(command, environment, file.write)
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
    events = sum(head.events for head in now.heads)
    say(f"Postgres: {file.bytes / 1e6:,.1f} MB, {events:,} events in the hash chains")
    return Dump(file.done(), now.server_version, tool_version, now.revision, now.compatible_from)


async def _show(text: Callable[[], str], say: Say) -> None:
    while True:
        await asyncio.sleep(SHOWN_EVERY_SECONDS)
        say(text())
