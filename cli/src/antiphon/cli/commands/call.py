import asyncio
import logging
from typing import Annotated

import typer
from rich.text import Text

from antiphon.cli.api import SessionApi
from antiphon.cli.caller import Caller, Line
from antiphon.cli.commands.stack_at import api_of, running_stack
from antiphon.cli.errors import StackError
from antiphon.cli.screen import me, out, says_why
from antiphon.cli.timeline import Timeline

FLOW = "booking"
LINES = (
    "i would like to book a table for two",
    "tomorrow at seven",
    "yes please",
    "may i speak to the manager",
    "thank you good bye",
)
READY_SECONDS = 30.0
CLOSING_SECONDS = 60.0  # from the caller's last word to the last event on the log
GOOD_BYE_SECONDS = 4.0
USER = "synthetic-caller"


@says_why
def call(
    flow: Annotated[str, typer.Option(help="The flow to talk with.")] = FLOW,
    say: Annotated[
        str, typer.Option(help="What the caller says, line by line.", metavar='"A|B|C"')
    ] = "|".join(LINES),
    ready_within: Annotated[
        float, typer.Option(help="Seconds that the agent has to become ready.", min=1.0)
    ] = READY_SECONDS,
) -> None:
    """Call the agent and print both sides' words.

    A synthetic caller joins the room as a real participant and speaks the lines, each after the last answer,
    and again when the agent could not make it out.
    Exits with 1 when no agent becomes ready or the agent falls silent.
    """
    lines = [line.strip() for line in say.split("|") if line.strip()]
    asyncio.run(_call(flow, lines, ready_within))


async def _call(flow: str, lines: list[str], ready_within: float) -> None:
    async with api_of(running_stack()) as api:
        created = await api.create(flow, USER)
        session = created["session_id"]
        out.print(Text.assemble(("session ", "dim"), (session, "bold")))
        await talk(created, lines, ready_within=ready_within, words=True)
        out.print(Text.assemble(("on record: ", "dim"), f"{me()} show {session}"))


async def talk(created: dict[str, str], lines: list[str], *, ready_within: float, words: bool) -> None:
    """Make one call in a session that was created: speak each line, hear each answer, hang up.

    Raises StackError when no agent becomes ready or one falls silent. An agent that hangs up ends it too.
    """
    # what matters comes as an exception or an event; its log tells of every room that closes
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    caller = Caller(created["livekit_url"], created["token"])
    if words:
        caller.on_line = lambda line: _print_words(line, caller.identity)
    async with caller:
        await caller.wait_until_ready(timeout_seconds=ready_within)
        for line in lines:
            if caller.notes.ended:
                break
            await caller.make_understood(line)
        # an agent that was told good bye ends the call itself
        await caller.wait_until_gone(timeout_seconds=GOOD_BYE_SECONDS)
        if caller.notes.ended and words:
            out.print(Text(caller.notes.ended, style="dim"))


def _print_words(line: Line, caller: str) -> None:
    mine = line.who == caller
    out.print(
        Text.assemble(
            ("caller  " if mine else "agent   ", "bold green" if mine else "bold magenta"), line.text
        )
    )


async def call_on_record(api: SessionApi) -> str:
    """Make the first call, and print its timeline as it is committed; return the session's id."""
    created = await api.create(FLOW, USER)
    session: str = created["session_id"]
    following = asyncio.create_task(_print_timeline(api, session), name="timeline")
    try:
        await talk(created, list(LINES), ready_within=READY_SECONDS, words=False)
        async with asyncio.timeout(CLOSING_SECONDS):
            await following
    except TimeoutError:
        raise StackError(f"session {session} did not close within {CLOSING_SECONDS:g} s") from None
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return session


async def _print_timeline(api: SessionApi, session: str) -> None:
    timeline = Timeline()
    async for event in api.follow(session):
        out.print(timeline.line(event))
