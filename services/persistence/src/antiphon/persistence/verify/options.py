"""The options of `verify`, checked before anything is read: errors are printed at once, and exit with 2."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from antiphon.persistence.verify.heads import Head

MISUSED = 2  # the exit code


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
    if time > datetime.now(UTC):
        _misused(f"--since {text!r} is in the future: there is nothing to verify.")
    return time


def check_log_options(since: datetime | None, tenant: str | None, against: Path | None) -> "dict[int, Head]":
    """Return the heads to compare with. Exits with 2 if the options make no sense."""
    from antiphon.contracts.ids import is_tenant
    from antiphon.persistence.verify.heads import InvalidAnchors, read_anchors

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


def _misused(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(MISUSED)
