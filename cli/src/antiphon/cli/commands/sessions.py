import asyncio
from typing import Annotated

import typer
from rich.text import Text

from antiphon.cli.api import Json
from antiphon.cli.commands.stack_at import api_of, running_stack
from antiphon.cli.screen import out, says_why, table
from antiphon.cli.timeline import Timeline


@says_why
def sessions(
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 20,
) -> None:
    """List the newest sessions."""
    asyncio.run(_sessions(limit))


async def _sessions(limit: int) -> None:
    async with api_of(running_stack()) as api:
        found = await api.sessions(limit=limit)
    columns = ("session_id", "status", "flow_id", "turns", "created_at")
    table(columns, [[str(session[column]) for column in columns] for session in found])


@says_why
def show(session: Annotated[str, typer.Argument(help="The session's id.")]) -> None:
    """Print a session's conversation and its timeline."""
    asyncio.run(_show(session))


async def _show(session_id: str) -> None:
    async with api_of(running_stack()) as api:
        session = await api.session(session_id)
        out.print(Text.assemble((session_id, "bold"), f"  {session['status']}, flow {session['flow_id']}"))
        out.print(Text("\nConversation", style="bold"))
        async for turn in api.turns(session_id):
            _print_turn(turn)
        out.print(Text("\nTimeline", style="bold"))
        timeline = Timeline()
        async for event in api.events(session_id):
            out.print(timeline.line(event))


def _print_turn(turn: Json) -> None:
    if turn["user_text"]:
        out.print(Text.assemble((f"{turn['turn']:>3}  caller   ", "bold green"), turn["user_text"]))
    if turn["assistant_text"]:
        cut = " —" if turn["interrupted"] else ""
        who = (f"{turn['turn']:>3}  {turn['agent_id']:<9}", "bold magenta")
        out.print(Text.assemble(who, turn["assistant_text"], (cut, "dim")))
