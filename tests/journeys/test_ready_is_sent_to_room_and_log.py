"""`agent.ready` is sent to the room and published to the log."""

from collections.abc import Awaitable, Callable

from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller


async def test_ready_is_sent_to_room_and_log(
    api: SessionApi, to_the_end: Callable[[str], Awaitable[list[Json]]]
) -> None:
    created = await api.create("booking", "ada")
    async with Caller(created["livekit_url"], created["token"]) as caller:
        sent = await caller.wait_until_ready(timeout_seconds=40)

    events = await to_the_end(created["session_id"])
    (logged,) = [event for event in events if event["type"] == "agent.ready"]
    assert sent.topic == "agent-status"
    assert sent.sender == f"agent-{created['session_id']}"
    assert sent.body["sessionId"] == logged["subject"] == created["session_id"]
    assert sent.body["greeting"] == logged["data"]["greeting"]
    assert sent.body["timestamp"]
    assert logged["data"]["ready_ms"] > 0
