"""An outage of the broker for 30 s of a call delays no answer and loses no event."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from antiphon.cli.api import Json, SessionApi
from antiphon.cli.caller import Caller

AWAY_SECONDS = 30.0
BEFORE = "i would like to book a table for two"
DURING = ("tomorrow at seven", "yes please")
AFTER = "may i speak to the manager"
NOT_SAID = (None, "(unclear)")  # the agent's prompt after a silence; a sentence that is repeated
PROMPT_SECONDS = 6.0  # an answer that waited for the broker would take longer


async def test_broker_away_mid_call(
    api: SessionApi,
    outage: Callable[[str], AbstractContextManager[None]],
    to_the_end: Callable[[str], Awaitable[list[Json]]],
) -> None:
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
        await caller.make_understood(BEFORE)
        with outage("nats"):
            went = time.monotonic()
            for line in DURING:
                await caller.wait_for_quiet(timeout_seconds=10)
                said = asyncio.get_running_loop().time()
                await caller.make_understood(line, timeout_seconds=AWAY_SECONDS)
                began = next(s.at for s in caller.log.states if s.at > said and s.state == "speaking")
                assert began - said < PROMPT_SECONDS
            await asyncio.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - went)))
        await caller.make_understood(AFTER)

    events = await to_the_end(created["session_id"])
    turns = [event["data"]["user_text"] for event in events if event["type"] == "turn.saved"]
    understood = [text for text in turns if text not in NOT_SAID]
    mine = [event["producerseq"] for event in events if event["producer"] == "agent"]
    assert understood == [BEFORE, *DURING, AFTER]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert mine == list(range(mine[0], mine[0] + len(mine)))
    assert events[-1]["type"] == "session.closed"
