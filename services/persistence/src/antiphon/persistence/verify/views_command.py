"""The command `verify` for views: what it prints, and how it ends."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.settings import PostgresSettings
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.declaration import EventFailed
from antiphon.persistence.verify.views import OtherVersion, ViewReport, verify_view

DIFFERENT, FAILED = 1, 3  # exit codes; 0 says that there is no difference
CONNECT_SECONDS = 5.0
_UNAVAILABLE: tuple[type[Exception], ...] = (
    DatabaseRefused,
    DatabaseUnavailable,
    EventFailed,
    OtherVersion,
    *POSTGRES_ERRORS,
)


def verify_views_command(
    settings: PostgresSettings,
    projections: Sequence[Projection],
    *,
    since: datetime | None,
    sample: int | None,
    as_json: bool,
) -> None:
    """Verify views, print each difference, and exit."""
    try:
        reports = asyncio.run(_verify(settings, projections, since, sample))
    except _UNAVAILABLE as error:
        typer.echo(f"Cannot verify: {error}", err=True)
        raise typer.Exit(FAILED) from error
    if as_json:
        typer.echo(msgspec.json.encode(reports).decode())
    else:
        for report in reports:
            typer.echo(_render(report))
    raise typer.Exit(DIFFERENT if any(report.difference_count for report in reports) else 0)


async def _verify(
    settings: PostgresSettings,
    projections: Sequence[Projection],
    since: datetime | None,
    sample: int | None,
) -> list[ViewReport]:
    database = await Database.connect(
        settings.postgres_dsn,
        name="persistence verify",
        max_size=2,
        connect_timeout_seconds=CONNECT_SECONDS,
        statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
    )
    try:
        return [await _shown(database, projection, since, sample) for projection in projections]
    finally:
        await database.close()


async def _shown(
    database: Database, projection: Projection, since: datetime | None, sample: int | None
) -> ViewReport:
    with Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f} events"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        bar = progress.add_task(projection.name, total=None)
        return await verify_view(
            database,
            projection,
            since=since,
            sample=sample,
            on_events=lambda events: progress.advance(bar, events),
        )


def _render(report: ViewReport) -> str:
    lines = [str(difference) for difference in report.differences]
    if hidden := report.difference_count - len(report.differences):
        lines.append(f"… and {hidden} more")
    found = f"{report.difference_count} differences" if report.difference_count else "no difference"
    lines.append(f"{report.view}: {report.rows:,} rows of {report.events:,} events, {found}")
    if report.left_out:
        lines.append(f"{report.view}: {', '.join(report.left_out)} is only verified as a whole")
    return "\n".join(lines)
