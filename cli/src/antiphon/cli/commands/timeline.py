"""`antiphon timeline`: what happened in a session, a line for each thing."""

from datetime import datetime

from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.commands.sessions import print_json
from antiphon.cli.screen import out, shown
from antiphon.client import TimelineItem

LONGEST_DETAIL = 160  # characters of a line
STYLES = {
    "session": "bold cyan",
    "participant": "blue",
    "caller": "bold green",
    "agent": "magenta",
    "tool": "yellow",
    "media": "dim",
    "error": "bold red",
}


async def print_timeline(session_id: str, *, as_json: bool = False) -> None:
    """Print the timeline of a session, its times relative to the first thing."""
    async with open_api() as client:
        items = [item async for item in client.sessions.timeline(session_id)]
    if as_json:
        print_json({"timeline": items})
        return
    if not items:
        out.print(Text("nothing yet: the events of this session are not in the view", style="dim"))
    for item in items:
        out.print(line(item, items[0].started_at))


def line(item: TimelineItem, began: datetime) -> Text:
    """Return a thing as a line: when it began, how long it took, its lane, and what it was."""
    text = Text(f"{(item.started_at - began).total_seconds():+9.3f} s  {_duration(item):>10}  ", style="dim")
    text.append(f"{shown(item.lane):<12}", style=STYLES.get(item.lane, ""))
    text.append(shown(item.title), style="default")
    if item.detail:
        cut = item.detail if len(item.detail) <= LONGEST_DETAIL else f"{item.detail[:LONGEST_DETAIL]}…"
        text.append(f"  {shown(cut)}", style="dim")
    return text


def _duration(item: TimelineItem) -> str:
    if item.ended_at is None:
        return "goes on"
    seconds = (item.ended_at - item.started_at).total_seconds()
    return f"{seconds:.3f} s" if seconds else ""
