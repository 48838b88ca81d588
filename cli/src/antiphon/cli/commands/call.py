"""`antiphon call`, and the first call of `antiphon up`."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.caller import Caller, Utterance
from antiphon.cli.commands.tail import print_events
from antiphon.cli.errors import StackError
from antiphon.cli.proxies import leave_proxy
from antiphon.cli.screen import out, program_name, shown
from antiphon.client import AsyncAntiphon, CreatedSession

FLOW = "booking"
USER = "synthetic-caller"
READY_SECONDS = 30.0
CLOSING_SECONDS = 60.0  # from the caller's last line to the last event of the log
HANG_UP_SECONDS = 4.0


async def print_call(
    say: str,
    ready_within: float,
    *,
    flow: str | None,
    agent: str | None,
    metadata: Mapping[str, Any],
    variables: Mapping[str, Any],
) -> None:
    """Call a flow, or an agent without one, and print the transcript; `say` has lines between `|`."""
    lines = [line.strip() for line in say.split("|") if line.strip()]
    async with open_api() as api:
        created = await api.sessions.create(
            flow_id=flow, agent_name=agent, user_id=USER, metadata=metadata, variables=variables
        )
        session = created.session_id
        out.print(Text.assemble(("session ", "dim"), (session, "bold")))
        await _talk(created, lines, ready_within=ready_within, transcript=True)
        out.print(Text.assemble(("recorded: ", "dim"), f"{program_name()} show {session}"))


async def record_call(api: AsyncAntiphon, lines: Sequence[str]) -> None:
    """Make a call and print its events as they are committed.

    Raises StackError if the agent does not reply, or the session does not close within 60 s.
    """
    created = await api.sessions.create(flow_id=FLOW, user_id=USER)
    session = created.session_id
    timeline = asyncio.create_task(print_events(api, session), name="timeline")
    try:
        await _talk(created, lines, ready_within=READY_SECONDS, transcript=False)
        async with asyncio.timeout(CLOSING_SECONDS):
            await timeline
    except TimeoutError:
        raise StackError(f"session {session} did not close within {CLOSING_SECONDS:g} s") from None
    finally:
        timeline.cancel()
        await asyncio.gather(timeline, return_exceptions=True)


async def _talk(
    created: CreatedSession, lines: Sequence[str], *, ready_within: float, transcript: bool
) -> None:
    # failures are raised or recorded as events; LiveKit also logs every closed room
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    if created.token is None:
        raise StackError(f"session {created.session_id} has ended: it cannot be joined")
    leave_proxy(os.environ, created.livekit_url)
    caller = Caller(created.livekit_url, created.token)
    if transcript:
        caller.on_line = lambda line: _print_line(line, caller.identity)
    async with caller:
        await caller.wait_until_ready(timeout_seconds=ready_within)
        for line in lines:
            if caller.log.ended:
                break
            await caller.say_until_understood(line)
        # after a goodbye the agent ends the call
        await caller.wait_until_gone(timeout_seconds=HANG_UP_SECONDS)
        if caller.log.ended and transcript:
            out.print(Text(shown(caller.log.ended), style="dim"))


def _print_line(line: Utterance, caller: str) -> None:
    own = line.who == caller
    who, style = ("caller  ", "bold green") if own else ("agent   ", "bold magenta")
    out.print(Text.assemble((who, style), shown(line.text)))
