"""`antiphon analytics daily` and `usage`."""

import asyncio
import re
from typing import Annotated, Any

import typer

from antiphon.cli.screen import report_errors

FromDay = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="First day, in UTC, at most 366 days up to --to; default: 30 days.",
        metavar="YYYY-MM-DD",
    ),
]
ToDay = Annotated[
    str | None,
    typer.Option("--to", help="Last day, which is included; default: today.", metavar="YYYY-MM-DD"),
]
FlowOption = Annotated[str | None, typer.Option(help="Only the sessions of this flow.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

DAILY = ("day", "flow", "calls", "failed", "minutes", "turns", "interrupted", "response ms", "ready ms")
USAGE = (
    "day",
    "kind",
    "provider",
    "model",
    "sessions",
    "requests",
    "input",
    "output",
    "characters",
    "audio s",
)

app = typer.Typer(
    name="analytics",
    help="Print figures of many sessions, by the day (UTC) on which they began.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def daily(
    from_day: FromDay = None, to_day: ToDay = None, flow: FlowOption = None, as_json: AsJson = False
) -> None:
    """Print calls, minutes, turns and latencies (p50 / p95) of each day and flow."""
    asyncio.run(_print_daily(_wanted(from_day, to_day, flow), as_json=as_json))


def usage(
    from_day: FromDay = None, to_day: ToDay = None, flow: FlowOption = None, as_json: AsJson = False
) -> None:
    """Print what each model was used for, per day: requests, tokens, characters and seconds of audio."""
    asyncio.run(_print_usage(_wanted(from_day, to_day, flow), as_json=as_json))


def _wanted(from_day: str | None, to_day: str | None, flow: str | None) -> dict[str, Any]:
    for name, day in (("--from", from_day), ("--to", to_day)):
        if day is not None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", day, re.ASCII) is None:
            raise typer.BadParameter(f"{name} takes a day as YYYY-MM-DD")
    return {"from_day": from_day, "to_day": to_day, "flow_id": flow}


async def _print_daily(wanted: dict[str, Any], *, as_json: bool) -> None:
    from antiphon.cli.api import open_api

    async with open_api() as client:
        days = [day async for day in client.analytics.daily(**wanted)]
    rows = [
        [
            *(d.day, d.flow_id, d.calls, d.failed, f"{d.minutes:.1f}", d.turns, d.interruptions),
            *(_latency(d.response_ms), _latency(d.ready_ms)),
        ]
        for d in days
    ]
    _print({"days": days}, DAILY, rows, as_json=as_json)


async def _print_usage(wanted: dict[str, Any], *, as_json: bool) -> None:
    from antiphon.cli.api import open_api

    async with open_api() as client:
        used = [figures async for figures in client.analytics.usage(**wanted)]
    rows = [
        [
            *(u.day, u.kind, u.provider, u.model, u.sessions, u.requests, u.input_tokens, u.output_tokens),
            *(u.characters, f"{u.audio_seconds:.1f}"),
        ]
        for u in used
    ]
    _print({"usage": used}, USAGE, rows, as_json=as_json)


def _print(document: Any, columns: tuple[str, ...], rows: list[list[Any]], *, as_json: bool) -> None:
    from antiphon.cli.commands.sessions import print_json
    from antiphon.cli.screen import shown, table

    if as_json:
        print_json(document)
    else:
        table(columns, [["—" if cell is None else shown(str(cell)) for cell in row] for row in rows])


def _latency(found: Any) -> str:
    return "—" if found.p50 is None else f"{found.p50:.0f} / {found.p95:.0f}"


COMMANDS = {"daily": daily, "usage": usage}
for command in COMMANDS.values():
    app.command()(report_errors(command))
