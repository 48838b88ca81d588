"""A broker outage of 30 s during a call delays no reply and loses no event."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from tests.journeys.json_api import Json, SessionApi
from tests.journeys.spoken import IGNORED_TEXTS, say_and_hear

from antiphon.cli.caller import Caller

OUTAGE_SECONDS = 30.0
BEFORE = "i would like to book a table for two"
DURING = ("tomorrow at seven", "yes please")
AFTER = "may i speak to the manager"


async def test_broker_outage_during_a_call(
    api: SessionApi,
    outage: Callable[[str], AbstractContextManager[None]],
    to_the_end: Callable[[str], Awaitable[list[Json]]],
) -> None:
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
        await caller.say_until_understood(BEFORE)
        with outage("nats"):
            outage_began = time.monotonic()
            for line in DURING:
                await say_and_hear(caller, line, timeout_seconds=OUTAGE_SECONDS)
            await asyncio.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - outage_began)))
        await caller.say_until_understood(AFTER)

    events = await to_the_end(created["session_id"])
    turns = [event["data"]["user_text"] for event in events if event["type"] == "turn.saved"]
    understood = [text for text in turns if text not in IGNORED_TEXTS]
    numbers = [event["producerseq"] for event in events if event["producer"] == "agent"]
    assert understood == [BEFORE, *DURING, AFTER]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert events[-1]["type"] == "session.closed"
