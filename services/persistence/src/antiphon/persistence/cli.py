"""The commands: run, migrate, roles, nats-users, status, rebuild, verify, backup, restore and streams."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.persistence.command_settings import loaded
from antiphon.persistence.nats_users import nats_users
from antiphon.persistence.stream_commands import streams

if TYPE_CHECKING:  # each command imports what it needs, after it has checked its arguments
    from antiphon.persistence.projection import Projection

MAX_JOBS = 4  # of a rebuild, without --jobs

app = typer.Typer(
    help="The only writer of Postgres: ingest, projections, migrations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(streams, name="streams")
app.command("nats-users")(nats_users)


@app.command()
def run(
    only: Annotated[
        str | None, typer.Option(metavar="VIEW,…", help="Keep only these views up to date.")
    ] = None,
    ingest: Annotated[
        bool, typer.Option("--ingest/--no-ingest", help="Commit events from the bus to the event log.")
    ] = True,
    views: Annotated[bool, typer.Option("--views/--no-views", help="Keep views up to date.")] = True,
) -> None:
    """Commit events from the bus to the event log and update the views, until stopped.

    Any number of processes share the work; each may do a part of it.
    """
    if not views and (only is not None or not ingest):
        raise typer.BadParameter("--no-views leaves ingest: it goes neither with --only nor with --no-ingest")
    names = [name.strip() for name in only.split(",")] if only else []
    projections = _chosen(names, every=only is None) if views else []

    from antiphon.chassis import process
    from antiphon.persistence.run import run as serve
    from antiphon.persistence.settings import PersistenceSettings

    settings = loaded(PersistenceSettings)
    process.run(partial(serve, settings, projections=projections, ingest=ingest))


@app.command()
def migrate() -> None:
    """Migrate the database to the schema that this version needs; safe to run again."""
    from sqlalchemy.exc import DBAPIError

    from antiphon.persistence.errors import POSTGRES_ERRORS
    from antiphon.persistence.migrations import SchemaMismatch, head
    from antiphon.persistence.migrations import migrate as upgrade
    from antiphon.persistence.settings import MigrateSettings

    settings = loaded(MigrateSettings)
    try:
        revision = upgrade(
            settings.postgres_dsn, statement_timeout_seconds=settings.migrate_statement_timeout_seconds
        )
    except SchemaMismatch as error:
        raise SystemExit(str(error)) from error
    except DBAPIError as error:
        raise SystemExit(f"Postgres refused the migration, run it again to go on: {error.orig}") from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres cannot be migrated, run it again to go on: {error!r}") from error
    typer.echo(f"The schema is at revision {revision}.")
    if revision != head():
        typer.echo(f"It is newer than this version's, {head()}, which can run with it.")


@app.command()
def roles(
    login: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=KIND,…", help="A login with this access: ingest, projections, reader, analyst."
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The logins, given as NAME, read the views of this tenant directly.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take all access from a login.")
    ] = None,
    passwords: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Passwords as {"NAME": "…"}; by default those in ANTIPHON_ROLE_PASSWORDS, if any.',
        ),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Of the names of new group roles, instead of antiphon.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Run it instead of printing it.")] = False,
) -> None:
    """Make a role for each kind of access, and logins: print the statements, or run them; safe to run again.

    The owner of the tables migrates; services and readers need no more than these roles.
    """
    from antiphon.persistence.access.command import plan_of
    from antiphon.persistence.access.command import roles as make
    from antiphon.persistence.settings import RolesSettings

    plan = plan_of(login or [], tenant, remove or [], passwords, prefix)
    asyncio.run(make(loaded(RolesSettings).postgres_dsn, plan, apply=apply, say=typer.echo))


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what to act on, the progress of ingest and of each view, the stream, and dead letters."""
    from antiphon.persistence.settings import StatusSettings
    from antiphon.persistence.status.command import read_status
    from antiphon.persistence.status.table import render

    settings = loaded(StatusSettings)
    found = asyncio.run(read_status(settings))
    typer.echo(found.to_json() if as_json else render(found))


@app.command()
def rebuild(
    views: Annotated[list[str] | None, typer.Argument(metavar="VIEW…", help="The views to build.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Build all views, one after the other.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start again instead of going on with an unfinished build.")
    ] = False,
    downgrade: Annotated[
        bool, typer.Option("--downgrade", help="Replace a view that later code has built.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="Processes for a long log; by default one per core, at most 4."),
    ] = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Only drop what unfinished builds have left.")
    ] = False,
) -> None:
    """Build views again from the log, beside the live ones, and take them into use.

    Readers see the live view until the new one has caught up; both are swapped in one transaction.
    """
    projections = _chosen(views or [], every)

    import uvloop

    from antiphon.persistence.rebuild.command import drop_unfinished
    from antiphon.persistence.rebuild.command import rebuild as build
    from antiphon.persistence.settings import RebuildSettings
    from antiphon.persistence.status.upkeep import unkept

    settings = loaded(RebuildSettings)
    if discard:
        for name in asyncio.run(drop_unfinished(settings.postgres_dsn, projections)):
            typer.echo(f"{name}: dropped an unfinished build")
    else:
        jobs = jobs or min(os.cpu_count() or 1, MAX_JOBS)
        uvloop.run(
            build(settings, projections, unkept=unkept, jobs=jobs, restart=restart, downgrade=downgrade)
        )


@app.command()
def resume(
    view: Annotated[str, typer.Argument(help="The view.")],
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out the event, now and in every rebuild; it is recorded.")
    ] = False,
    session: Annotated[
        str | None, typer.Option(help="With --skip and --sequence: leave out this event of this session.")
    ] = None,
    sequence: Annotated[int | None, typer.Option(help="The sequence of the event in its session.")] = None,
) -> None:
    """Let a stalled view go on, after the cause was mended or without the event that it cannot fold."""
    [projection] = _chosen([view], every=False)
    if (session is None) != (sequence is None) or (session is not None and not skip):
        raise typer.BadParameter("--session and --sequence go together, with --skip")

    from antiphon.persistence import resume as resuming
    from antiphon.persistence.settings import RebuildSettings

    settings = loaded(RebuildSettings)
    if session is not None and sequence is not None:
        typer.echo(asyncio.run(resuming.skip_event(settings, projection.name, session, sequence)))
        return
    resumed = asyncio.run(resuming.resume(settings, projection.name, skip=skip))
    for part in resumed:
        what = "skips" if part.skipped else "tries again"
        typer.echo(f"{view} partition {part.partition}: {what} {part.stalled.type} {part.stalled.event_id}")
    if not resumed:
        typer.echo(f"{view} is not stalled.")


@app.command()
def verify(
    views: Annotated[
        list[str] | None, typer.Argument(metavar="VIEW…", help="The views to verify; all if none is named.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Verify the hash chains of the event log.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was committed since a time, as 2026-01-31T00:00:00Z."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Of views: only so many sessions, chosen at random.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Of the log: only the sessions of a tenant.")] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Of the log: print the end of each chain, to be kept elsewhere.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the log: compare with the heads in the --json of earlier."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, of the log with heads.")] = False,
) -> None:
    """Prove that the event log was not changed (--log), or that views are what the log says.

    Exits with 0 if there is no difference, with 1 if there are some, with 2 if the options make no sense, and
    with 3 if Postgres cannot be read.
    """
    from antiphon.persistence.verify.options import check_log_options, read_time

    start = read_time(since)
    if log:
        if views or sample is not None:
            raise typer.BadParameter("--log stands alone: give views and --sample to another command")
        anchors = check_log_options(start, tenant, against)

        from antiphon.persistence.settings import VerifySettings
        from antiphon.persistence.verify.command import verify_log_command

        settings = loaded(VerifySettings)
        verify_log_command(settings, start, tenant, anchors, heads=heads, as_json=as_json)
    if tenant is not None or heads or against is not None:
        raise typer.BadParameter("--tenant, --heads and --against need --log")
    projections = _chosen(views or [], every=not views)

    from antiphon.persistence.settings import VerifySettings
    from antiphon.persistence.verify.views_command import verify_views_command

    settings = loaded(VerifySettings)
    verify_views_command(settings, projections, since=start, sample=sample, as_json=as_json)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    only: Annotated[
        str | None,
        typer.Option(metavar="PART,…", help="Only these parts: postgres, buckets, stream."),
    ] = None,
) -> None:
    """Back up the event log and the views, the buckets, and what the stream has and the log has not.

    Everything may run meanwhile. The folder exists when the backup is whole, and not before.
    """
    from antiphon.persistence.backup.command import backup_command, read_parts
    from antiphon.persistence.settings import BackupSettings

    parts = read_parts(only)
    backup_command(loaded(BackupSettings), folder, parts)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a backup.")],
    only: Annotated[
        str | None,
        typer.Option(metavar="PART,…", help="Only these parts: postgres, buckets, stream."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Give keys of buckets that differ the values of the backup.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the backup and what it would be restored into.")
    ] = False,
) -> None:
    """Restore a backup into an empty database and a broker without its stream.

    Everything is checked before anything is changed. Exits with 1 if it is refused or fails.
    """
    from antiphon.persistence.backup.command import read_parts, restore_command
    from antiphon.persistence.settings import BackupSettings

    parts = read_parts(only)
    restore_command(loaded(BackupSettings), folder, parts, overwrite=overwrite, dry_run=dry_run)


def _chosen(views: list[str], every: bool) -> "list[Projection]":
    from antiphon.persistence.projections import PROJECTIONS

    known = {projection.name: projection for projection in PROJECTIONS}
    if every == bool(views):
        raise typer.BadParameter(f"name views or use --all; the views are {', '.join(known)}")
    if unknown := [name for name in views if name not in known]:
        raise typer.BadParameter(f"no view {', '.join(unknown)}; the views are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(views)] or list(known.values())
