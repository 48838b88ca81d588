"""The commands: run, migrate, status, verify, streams."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from antiphon.chassis import process, telemetry
from antiphon.chassis.settings import load
from antiphon.persistence.settings import (
    MigrateSettings,
    PersistenceSettings,
    RecreateSettings,
    StatusSettings,
)

app = typer.Typer(
    help="The only writer of Postgres: ingest, projections, migrations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

streams = typer.Typer(help="Look at the stream of events, and make it again.", no_args_is_help=True)
app.add_typer(streams, name="streams")


@app.command()
def run() -> None:
    """Commit events from the bus to the event log and update the views, until stopped."""
    from antiphon.persistence.run import run as serve

    settings = load(PersistenceSettings)
    telemetry.configure("persistence", settings)
    process.run(partial(serve, settings))


@app.command()
def migrate() -> None:
    """Migrate the database to the schema that this version needs; safe to run again."""
    from sqlalchemy.exc import DBAPIError

    from antiphon.persistence.errors import POSTGRES_ERRORS
    from antiphon.persistence.migrations import SchemaMismatch, head
    from antiphon.persistence.migrations import migrate as upgrade

    settings = load(MigrateSettings)
    telemetry.configure("persistence", settings)
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
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the progress of ingest and of each projection, and the dead letters."""
    from antiphon.persistence.status import read_status, render

    settings = load(StatusSettings)
    telemetry.configure("persistence", settings)
    found = asyncio.run(read_status(settings))
    typer.echo(found.to_json() if as_json else render(found))


@app.command()
def verify(
    log: Annotated[bool, typer.Option("--log", help="Verify the hash chains of the event log.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was committed since a time, as 2026-01-31T00:00:00Z."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only the sessions of a tenant.")] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Print the end of each partition's chain, to be kept elsewhere.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare with the heads of an earlier run, its output of --json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, always with the heads.")] = False,
) -> None:
    """Prove that nothing in the event log was changed, removed, added or exchanged.

    Exits with 0 if there is no difference, with 1 if there are some, with 2 if the options make no sense, and
    with 3 if Postgres cannot be read.
    """
    if not log:
        typer.echo("Say what to verify: --log.", err=True)
        raise typer.Exit(2)
    from antiphon.persistence.verify.command import verify_log_command

    verify_log_command(since=since, tenant=tenant, heads=heads, against=against, as_json=as_json)


@streams.command("status")
def streams_status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Compare the stream with what was read from it. Exit with 1 if an operator must act."""
    from antiphon.persistence.streams.run import with_servers
    from antiphon.persistence.streams.status import read_stream_status, render

    settings = load(StatusSettings)
    telemetry.configure("persistence", settings)
    found = asyncio.run(with_servers(settings, read_stream_status))
    typer.echo(found.to_json() if as_json else render(found))
    raise typer.Exit(1 if found.problems else 0)


@streams.command("recreate")
def streams_recreate(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Delete the existing stream; messages that are not in the log are kept."
        ),
    ] = False,
) -> None:
    """Create the stream again, after everything that the log has, and let stopped partitions continue."""
    from antiphon.persistence.streams.recreate import recreate, render_recreated
    from antiphon.persistence.streams.run import with_servers

    settings = load(RecreateSettings)
    telemetry.configure("persistence", settings)
    command = partial(
        recreate,
        replace_existing=replace,
        replicas=settings.nats_replicas,
        max_bytes=settings.stream_max_bytes,
    )
    result = asyncio.run(with_servers(settings, command))
    typer.echo(render_recreated(result))
