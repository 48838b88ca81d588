"""Creating a session does not wait for the agent."""

from datetime import UTC, datetime

from tests.journeys.json_api import SessionApi


async def test_create_does_not_wait_for_the_agent(api: SessionApi) -> None:
    created = await api.create("booking", "ada")
    responded = datetime.now(UTC)

    assert created["status"] == "dispatched"
    assert created["token"]
    joined = None
    async for event in api.follow(created["session_id"]):
        if event["type"] == "agent.joined":
            joined = datetime.fromisoformat(event["time"])
            break
    assert joined is not None
    assert joined > responded
