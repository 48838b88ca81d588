"""LiveKit's room service, and how each of its faults is told apart.

The server is a small one of our own: a real LiveKit cannot be made to refuse, stall or fail on demand.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.session_api.fake_livekit import API_KEY, API_SECRET

from antiphon.session_api.livekit import LiveKit, LiveKitRefused, LiveKitUnavailable

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


@pytest.fixture
async def rooms(livekit: Any) -> AsyncIterator[LiveKit]:
    """The client under test."""
    client = LiveKit(livekit.url, API_KEY, API_SECRET, agent_name="antiphon", timeout_seconds=0.3)
    yield client
    await client.close()


async def test_one_call_makes_the_room_and_asks_for_the_agent(rooms: LiveKit, livekit: Any) -> None:
    sid = await rooms.create_room(SESSION, "default")

    [wish] = livekit.created
    assert sid == livekit.rooms[SESSION]
    assert wish.name == SESSION
    assert [agent.agent_name for agent in wish.agents] == ["antiphon"]
    whose = {"session_id": SESSION, "tenant": "default"}
    assert json.loads(wish.metadata) == json.loads(wish.agents[0].metadata) == whose


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_overloaded_or_failing_livekit_may_be_asked_again(
    status: int, rooms: LiveKit, livekit: Any
) -> None:
    livekit.status = status

    with pytest.raises(LiveKitUnavailable):
        await rooms.create_room(SESSION, "default")


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_is_final(status: int, rooms: LiveKit, livekit: Any) -> None:
    livekit.status = status

    with pytest.raises(LiveKitRefused):
        await rooms.create_room(SESSION, "default")


async def test_a_livekit_that_stalls_is_given_up(rooms: LiveKit, livekit: Any) -> None:
    livekit.delay_seconds = 2

    with pytest.raises(LiveKitUnavailable, match=r"no answer within 0\.3 s"):
        await rooms.create_room(SESSION, "default")


async def test_a_livekit_that_is_not_there_is_away() -> None:
    client = LiveKit("ws://127.0.0.1:1", API_KEY, API_SECRET, agent_name="antiphon", timeout_seconds=1)

    with pytest.raises(LiveKitUnavailable):
        await client.create_room(SESSION, "default")
    await client.close()


async def test_a_room_is_deleted_once_and_its_absence_is_fine(rooms: LiveKit, livekit: Any) -> None:
    await rooms.create_room(SESSION, "default")

    await rooms.delete_room(SESSION)
    await rooms.delete_room(SESSION)

    assert livekit.rooms == {}
    assert livekit.deleted == [SESSION, SESSION]


async def test_a_refusal_to_delete_is_not_taken_for_absence(rooms: LiveKit, livekit: Any) -> None:
    livekit.status = 401

    with pytest.raises(LiveKitRefused):
        await rooms.delete_room(SESSION)
