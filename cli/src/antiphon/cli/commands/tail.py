import asyncio
from typing import Annotated

import typer
from rich.text import Text

from antiphon.cli.api import SessionApi
from antiphon.cli.commands.stack_at import api_of, running_stack
from antiphon.cli.screen import out, says_why
from antiphon.cli.timeline import Timeline

LOOK_SECONDS = 1.0
NEWEST = 20
OVER = ("closed", "failed")


@says_why
def tail(
    session: Annotated[
        str | None, typer.Argument(help="One session, from its first event to its last; all when not given.")
    ] = None,
) -> None:
    """Print events live, as they are committed."""
    asyncio.run(_tail(session))


async def _tail(session: str | None) -> None:
    async with api_of(running_stack()) as api:
        if session is not None:
            await _follow(api, session, prefix="")
            return
        try:
            await _follow_all(api)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def _follow_all(api: SessionApi) -> None:
    known: set[str] = set()
    async with asyncio.TaskGroup() as following:
        while True:
            for session in reversed(await api.sessions(limit=NEWEST)):
                session_id = session["session_id"]
                # what was over before we came is history: `antiphon show` prints it
                if session_id not in known and (known or session["status"] not in OVER):
                    following.create_task(_follow(api, session_id, prefix=f"…{session_id[-6:]}  "))
                known.add(session_id)
            await asyncio.sleep(LOOK_SECONDS)


async def _follow(api: SessionApi, session: str, *, prefix: str) -> None:
    timeline = Timeline()
    async for event in api.follow(session):
        out.print(Text(prefix, style="bold") + timeline.line(event))
