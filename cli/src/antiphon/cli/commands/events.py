"""`antiphon events`: the events of all sessions, from any place in the log."""

import re
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import typer
from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.screen import err, out
from antiphon.cli.timeline import feed_line
from antiphon.client import SessionEvent

PLACES = ("start", "now")
YEARS = "--since takes a time in the years 2 to 9998; start is the beginning"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_ago = re.compile(r"(\d{1,6})([smhd])")
_not_ascii = re.compile(r"[^\x20-\x7e]")


def place_of(since: str | None, after: str | None, now: datetime) -> dict[str, Any]:
    """Return the arguments of the client for `--since` and `--after`.

    Raises typer.BadParameter.
    """
    if since is not None and after is not None:
        raise typer.BadParameter("pass --since or --after, not both")
    if since is None or since in PLACES:
        return {"after": after if since is None else since}
    try:
        time = _time(since, now)
    except ValueError as error:
        raise typer.BadParameter(
            "--since takes start, now, a time as 2026-11-21T09:30:00Z, or how long ago it was, as 15m or 2h"
        ) from error
    except OverflowError as error:
        raise typer.BadParameter(YEARS) from error
    if not 1 < time.year < 9999:
        raise typer.BadParameter(YEARS)
    return {"since": time}


def _time(since: str, now: datetime) -> datetime:
    """Return the time that a text names; without an offset it is local.

    Raises ValueError, OverflowError.
    """
    ago = _ago.fullmatch(since)
    if ago is not None:
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    time = datetime.fromisoformat(since)
    if time.tzinfo or not 1 < time.year < 9999:
        return time
    return time.astimezone()


async def print_events(
    filters: Mapping[str, Any], *, since: str | None, after: str | None, follow: bool, as_json: bool
) -> None:
    """Print the events that the filters select, and at the end the cursor to go on from, on stderr."""
    place = place_of(since, after, datetime.now(UTC))
    cursor = None
    async with open_api() as client:
        feed = (client.stream_events if follow else client.events)(**filters, **place)
        try:
            async with aclosing(feed):
                async for event in feed:
                    out.print(json_line(event) if as_json else feed_line(event))
                    cursor = feed.cursor
                cursor = feed.cursor
        finally:  # also after Ctrl-C or SIGTERM, which cancels the task
            if cursor is not None:
                err.print(Text(f"go on with --after {cursor}", style="dim"))


def json_line(event: SessionEvent) -> Text:
    """Return an event as a line of JSON, in ASCII: no text in it acts on the terminal."""
    return Text(_not_ascii.sub(_escaped, event.to_json().decode()))


def _escaped(found: re.Match[str]) -> str:
    if found[0] in "\r\n\t":
        return " "  # only between tokens
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
