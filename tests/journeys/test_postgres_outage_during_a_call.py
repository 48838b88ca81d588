"""Without Postgres, sessions are created and calls work; the log catches up afterwards."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import httpx
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller


async def test_postgres_outage_during_a_call(
    api: SessionApi,
    http: httpx.AsyncClient,
    outage: Callable[[str], AbstractContextManager[None]],
    to_the_end: Callable[[str], Awaitable[list[Json]]],
) -> None:
    with outage("postgres"):
        created = await api.create("booking", "ada")
        async with Caller(created["livekit_url"], created["token"]) as caller:
            await caller.wait_until_ready(timeout_seconds=40)
            await caller.say_until_understood("i would like to book a table for two")
        listed = await http.get("/v1/sessions")
        assert listed.status_code == 503
        assert listed.headers["Retry-After"]

    events = await to_the_end(created["session_id"])
    turns = [event["data"]["user_text"] for event in events if event["type"] == "turn.saved"]
    assert turns[-1] == "i would like to book a table for two"
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "session.closed"
