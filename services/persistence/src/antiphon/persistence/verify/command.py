"""The command `verify --log`: its options, what it prints, and the codes that it exits with."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import typer

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.contracts.ids import is_tenant
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check
from antiphon.persistence.settings import VerifySettings
from antiphon.persistence.verify.difference import LogReport, render
from antiphon.persistence.verify.heads import Head, InvalidAnchors, read_anchors
from antiphon.persistence.verify.log_chain import verify_log
from antiphon.persistence.verify.progress import shown

DIFFERENT, MISUSED, FAILED = 1, 2, 3  # exit codes; 0 says that there is no difference
CONNECT_SECONDS = 5.0
CONNECTIONS = 2  # one page is read while another is checked


def read_time(text: str | None) -> datetime | None:
    """Return the time of `--since`, if there is one. Exits with 2 if it is none."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        _misused(f"--since {text!r} is not a time: write it as 2026-01-31T00:00:00Z.")
    if time.tzinfo is None:
        _misused(f"--since {text!r} has no time zone: write it as {time.isoformat()}Z.")
    return time


def check_log_options(since: datetime | None, tenant: str | None, against: Path | None) -> dict[int, Head]:
    """Return the heads to compare with. Exits with 2 if the options make no sense."""
    if tenant is not None and not is_tenant(tenant):
        _misused(f"--tenant {tenant!r} is not the name of a tenant: at most 63 of a-z, 0-9 and -.")
    if against is None:
        return {}
    if since is not None or tenant is not None:
        _misused("--against needs all of the log: leave out --since and --tenant.")
    try:
        return read_anchors(against)
    except InvalidAnchors as error:
        _misused(str(error))


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
            return await verify_log(database, since=since, tenant=tenant, anchors=anchors, progress=progress)
    finally:
        await database.close()


def _misused(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(MISUSED)
