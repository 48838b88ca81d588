"""The command `verify` for views: what it prints, and how it ends."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import typer

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.settings import PostgresSettings
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.progress import shown
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.declaration import EventFailed
from antiphon.persistence.status.upkeep import Upkeep, read_upkeep
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


class Verified(NamedTuple):
    """What verification found in a view, and whether it is kept up to date."""

    report: ViewReport
    upkeep: Upkeep

    def document(self) -> dict[str, Any]:
        """Return both as one document."""
        return {**msgspec.to_builtins(self.report), **msgspec.to_builtins(self.upkeep)}


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
        found = asyncio.run(_verify(settings, projections, since, sample))
    except _UNAVAILABLE as error:
        typer.echo(f"Cannot verify: {error}", err=True)
        raise typer.Exit(FAILED) from error
    if as_json:
        typer.echo(msgspec.json.encode([each.document() for each in found]).decode())
    else:
        for each in found:
            typer.echo(_render(*each))
    raise typer.Exit(DIFFERENT if any(each.report.difference_count for each in found) else 0)


async def _verify(
    settings: PostgresSettings,
    projections: Sequence[Projection],
    since: datetime | None,
    sample: int | None,
) -> list[Verified]:
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
) -> Verified:
    with shown(projection.name) as progress:
        report = await verify_view(
            database,
            projection,
            since=since,
            sample=sample,
            on_events=progress.add,
        )
        async with database.transaction() as connection:
            return Verified(report, await read_upkeep(connection, projection))


def _render(report: ViewReport, upkeep: Upkeep) -> str:
    lines = [str(difference) for difference in report.differences]
    if hidden := report.difference_count - len(report.differences):
        lines.append(f"… and {hidden:,} more")
    chosen = ""
    if report.of_sessions is not None:
        chosen = f"{report.sessions:,} of {report.of_sessions:,} sessions, "
    count = report.difference_count
    found = f"{count:,} difference{'' if count == 1 else 's'}" if count else "no difference"
    lines.append(f"{report.view}: {chosen}{report.rows:,} rows of {report.events:,} events, {found}")
    if left_out := report.left_out:
        what = "row of the table" if len(left_out) == 1 else "row of the tables"
        lines.append(
            f"{report.view}: no {what} {', '.join(left_out)} was compared: "
            "that needs a run without --since and --sample"
        )
    lines += [f"{report.view}: {problem}" for problem in upkeep.problems(compared=True)]
    return "\n".join(lines)
