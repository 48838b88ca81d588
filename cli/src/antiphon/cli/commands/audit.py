"""`antiphon audit`."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from antiphon.cli.commands.keys import seconds_of
from antiphon.contracts.audit import ActKind

COLUMNS = ("at", "tenant", "kind", "target", "outcome", "actor", "address", "request")


def audit(
    since: Annotated[str, typer.Option(help="How long ago to begin, as 12h or 90d.", metavar="TIME")] = "7d",
    kind: Annotated[list[ActKind] | None, typer.Option(help="Only these; may be repeated.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did, as it is shown.")] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant; another needs an operator's key.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print who changed API keys and flows, and what was erased, oldest first.

    The key in use needs the scope admin; an operator's key sees every tenant. Records are kept for 400 days.
    """
    begins = datetime.now(UTC) - timedelta(seconds=seconds_of(since))
    kinds = [str(each) for each in kind] if kind else None
    asyncio.run(_print({"since": begins, "kind": kinds, "actor": actor, "tenant": tenant}, as_json=as_json))


async def _print(wanted: dict[str, Any], *, as_json: bool) -> None:
    from antiphon.cli.api import open_api
    from antiphon.cli.commands.sessions import print_json
    from antiphon.cli.screen import shown, table

    async with open_api() as client:
        found = [entry async for entry in client.audit.list(**wanted)]
    if as_json:
        print_json({"audit": found})
        return
    rows = (
        (
            e.at.isoformat(timespec="seconds"),
            e.tenant,
            e.kind,
            e.target,
            e.outcome,
            e.actor,
            e.address,
            e.request_id,
        )
        for e in found
    )
    table(COLUMNS, [["—" if cell is None else shown(cell) for cell in row] for row in rows])
