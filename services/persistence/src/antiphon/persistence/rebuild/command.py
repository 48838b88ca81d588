"""The command `rebuild`: one view after the other, with their progress."""

import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import typer

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.settings import PostgresSettings
from antiphon.persistence.errors import POSTGRES_ERRORS, Fenced
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.progress import shown
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.declaration import EventFailed
from antiphon.persistence.rebuild.attached import InUse
from antiphon.persistence.rebuild.build import BuildInProgress, build, discard
from antiphon.persistence.rebuild.fold import COLLECTED_AFTER
from antiphon.persistence.rebuild.swap import Blocked, NewerVersion

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CONNECT_SECONDS = 5.0
READERS = 4

Unkept = Callable[["Connection", Projection], Awaitable[Sequence[str]]]

STOPPED: tuple[type[Exception], ...] = (Fenced, DatabaseUnavailable, *POSTGRES_ERRORS)


async def rebuild(
    settings: PostgresSettings,
    projections: Sequence[Projection],
    *,
    unkept: Unkept,
    jobs: int,
    restart: bool = False,
    downgrade: bool = False,
) -> None:
    """Build views again and take each into use; `unkept` tells what to print of who updates it.

    Exits with 1 when that cannot be done now; what is built stays, and the next run goes on from there.
    """
    gc.set_threshold(*COLLECTED_AFTER)
    try:
        database = await Database.connect(
            settings.postgres_dsn,
            name="persistence rebuild",
            max_size=READERS,
            connect_timeout_seconds=CONNECT_SECONDS,
        )
    except (DatabaseRefused, DatabaseUnavailable) as error:
        raise SystemExit(str(error)) from error
    try:
        async with database.transaction() as connection:
            await check(connection)
        for projection in projections:
            await _rebuild(settings.postgres_dsn, database, projection, unkept, jobs, restart, downgrade)
    except SchemaMismatch as error:
        raise SystemExit(str(error)) from error
    finally:
        await database.close()


async def drop_unfinished(dsn: str, projections: Sequence[Projection]) -> list[str]:
    """Drop what unfinished builds have left; return the names of those views.

    Exits with 1 when one of them is being built.
    """
    try:
        return [projection.name for projection in projections if await discard(dsn, projection.name)]
    except (BuildInProgress, DatabaseUnavailable) as error:
        raise SystemExit(str(error)) from error


async def _rebuild(
    dsn: str,
    database: Database,
    projection: Projection,
    unkept: Unkept,
    jobs: int,
    restart: bool,
    downgrade: bool,
) -> None:
    with shown(projection.name) as progress:
        try:
            await build(
                dsn,
                database,
                projection,
                jobs=jobs,
                restart=restart,
                downgrade=downgrade,
                on_progress=progress.add,
                on_blocked=progress.waits,
            )
        except (BuildInProgress, InUse, NewerVersion, Blocked) as error:
            raise SystemExit(str(error)) from error
        except EventFailed as error:
            raise SystemExit(
                f"The projection {projection.name} cannot fold an event: {error}: {error.__cause__}. "
                f"Correct it and run this again, or skip the event: `resume {projection.name} --skip "
                f"--session {error.envelope.subject} --sequence {error.envelope.sequence}`."
            ) from error
        except STOPPED as error:
            raise SystemExit(f"The rebuild stopped, run it again to go on: {error!r}") from error
    typer.echo(
        f"{projection.name}: {progress.events:,} events in {progress.seconds:.1f} s, "
        f"version {projection.version}"
    )
    try:
        async with database.transaction() as connection:
            problems = await unkept(connection, projection)
    except STOPPED as error:
        raise SystemExit(f"{projection.name} was built; who updates it is not known: {error!r}") from error
    for problem in problems:
        typer.echo(f"{projection.name}: {problem}")
