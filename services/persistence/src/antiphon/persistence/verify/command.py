"""The command `verify --log`: what it prints, and the codes that it exits with."""

import asyncio
from datetime import datetime
from typing import NoReturn

import typer

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.progress import shown
from antiphon.persistence.settings import VerifySettings
from antiphon.persistence.verify.difference import LogReport, render
from antiphon.persistence.verify.heads import Head
from antiphon.persistence.verify.log_chain import verify_log
from antiphon.persistence.verify.log_rows import NoSuchTenant
from antiphon.persistence.verify.options import MISUSED

DIFFERENT, FAILED = 1, 3  # exit codes; 0 says that there is no difference
CONNECT_SECONDS = 5.0
CONNECTIONS = 2  # one page is read while another is checked


def verify_log_command(
    settings: VerifySettings,
    since: datetime | None,
    tenant: str | None,
    anchors: dict[int, Head],
    *,
    heads: bool,
    as_json: bool,
) -> NoReturn:
    """Verify the event log, print what was found, and exit."""
    try:
        report = asyncio.run(_run(settings, since, tenant, anchors))
    except (DatabaseRefused, DatabaseUnavailable, SchemaMismatch) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from error
    except NoSuchTenant as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(MISUSED) from error
    except POSTGRES_ERRORS as error:
        typer.echo(f"Postgres: {error!r}", err=True)
        raise typer.Exit(FAILED) from error
    if as_json:
        typer.echo(report.to_json())
    else:
        for difference in report.differences:
            typer.echo(str(difference))
        typer.echo(render(report, heads=heads))
    raise typer.Exit(0 if report.ok else DIFFERENT)


async def _run(
    settings: VerifySettings, since: datetime | None, tenant: str | None, anchors: dict[int, Head]
) -> LogReport:
    database = await Database.connect(
        settings.postgres_dsn,
        name="persistence verify",
        max_size=CONNECTIONS,
        connect_timeout_seconds=CONNECT_SECONDS,
        statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
    )
    try:
        async with database.transaction() as connection:
            await check(connection)
        with shown("event log") as progress:

            def on_progress(done: int, total: int, events: int) -> None:
                progress.add(events - progress.events, done / total if total else 1.0)

            return await verify_log(
                database, since=since, tenant=tenant, anchors=anchors, progress=on_progress
            )
    finally:
        await database.close()
