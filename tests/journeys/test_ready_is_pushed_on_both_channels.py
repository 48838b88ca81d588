"""Readiness of the agent is pushed to the room and to the log."""

from collections.abc import Awaitable, Callable

from antiphon.cli.api import Json, SessionApi
from antiphon.cli.caller import Caller


async def test_ready_is_pushed_on_both_channels(
    api: SessionApi, to_the_end: Callable[[str], Awaitable[list[Json]]]
) -> None:
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        pushed = await caller.wait_until_ready(timeout_seconds=40)

    events = await to_the_end(created["session_id"])
    (logged,) = [event for event in events if event["type"] == "agent.ready"]
    assert pushed.topic == "agent-status"
    assert pushed.sender == f"agent-{created['session_id']}"
    assert pushed.body["sessionId"] == logged["subject"] == created["session_id"]
    assert pushed.body["greeting"] == logged["data"]["greeting"]
    assert pushed.body["timestamp"]
    assert logged["data"]["ready_ms"] > 0
