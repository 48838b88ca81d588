from typing import Annotated

import typer
from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.screen import out, says_why, table
from antiphon.cli.settings import StackSettings
from antiphon.cli.status import Status, status_of


@says_why
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")] = False,
) -> None:
    """Say how each service is. Exit with 0 only when all are ready."""
    found = status_of(load(StackSettings))
    if as_json:
        typer.echo(found.as_json())
    else:
        _print(found)
    if not found.ready:
        raise typer.Exit(1)


def _print(found: Status) -> None:
    if not found.services:
        out.print(f"No stack was ever up in {found.addresses.home}.", markup=False)
        return
    table(
        ("service", "pid", "restarts", "state"),
        [
            (s.name, str(s.pid or ""), str(s.restarts), Text(s.detail, style="green" if s.ready else "red"))
            for s in found.services
        ],
    )
    out.print(Text(f"\nAPI {found.addresses.api_url}   state {found.addresses.home}", style="dim"))
