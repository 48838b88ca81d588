"""The commands: run, migrate, status."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from antiphon.chassis import process, telemetry
from antiphon.chassis.settings import load
from antiphon.persistence.settings import MigrateSettings, PersistenceSettings, StatusSettings

app = typer.Typer(
    help="The only writer of Postgres: ingest, projections, migrations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
        raise SystemExit(f"Postgres refused the migration, nothing was changed: {error.orig}") from error
    except POSTGRES_ERRORS as error:
        raise SystemExit(f"Postgres cannot be migrated, nothing was changed: {error!r}") from error
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
