"""A line that is said to the agent, and its reply, which waits for nothing."""

import asyncio

from antiphon.cli.caller import Caller

REPLY_SECONDS = 6.0  # a reply that waits for the broker takes longer
IGNORED_TEXTS = (None, "(unclear)")  # the prompt after a silence; an unclear line that is repeated


async def say_and_hear(caller: Caller, line: str, *, timeout_seconds: float) -> None:
    """Say a line when the agent is quiet; check that the reply begins in time."""
    await caller.wait_for_quiet(timeout_seconds=10)
    said = asyncio.get_running_loop().time()
    await caller.say_until_understood(line, timeout_seconds=timeout_seconds)
    replied = next(s.at for s in caller.log.states if s.at > said and s.state == "speaking")
    assert replied - said < REPLY_SECONDS
