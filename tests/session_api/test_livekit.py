"""LiveKit's room service: requests, and which failures can be retried."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.session_api.fake_livekit import API_KEY, API_SECRET

from antiphon.chassis import tracing
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.chassis.settings import http_url, websocket_url
from antiphon.session_api.livekit import LiveKit, LiveKitRefused, LiveKitUnavailable

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


@pytest.fixture
async def rooms(livekit: Any) -> AsyncIterator[LiveKit]:
    """The client under test."""
    client = LiveKit(
        livekit.url, LiveKitKeys(API_KEY, API_SECRET), deployment="testonly", timeout_seconds=0.3
    )
    yield client
    await client.close()


async def test_create_room_carries_the_agent_dispatch(rooms: LiveKit, livekit: Any) -> None:
    sid = await rooms.create_room(SESSION, "default", "antiphon")

    [room] = livekit.created
    assert sid == livekit.rooms[SESSION]
    assert room.name == SESSION
    assert [agent.agent_name for agent in room.agents] == ["antiphon"]
    expected = {"session_id": SESSION, "tenant": "default", "deployment": "testonly"}
    assert json.loads(room.metadata) == json.loads(room.agents[0].metadata) == expected


async def test_only_the_job_is_told_the_trace(rooms: LiveKit, livekit: Any) -> None:
    with tracing.continue_from(TRACE):
        await rooms.create_room(SESSION, "default", "antiphon")

    [room] = livekit.created
    assert json.loads(room.agents[0].metadata)["traceparent"] == TRACE
    assert "traceparent" not in room.metadata


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_transient_status_raises_unavailable(status: int, rooms: LiveKit, livekit: Any) -> None:
    livekit.status = status

    with pytest.raises(LiveKitUnavailable):
        await rooms.create_room(SESSION, "default", "antiphon")


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_client_error_raises_refused(status: int, rooms: LiveKit, livekit: Any) -> None:
    livekit.status = status

    with pytest.raises(LiveKitRefused):
        await rooms.create_room(SESSION, "default", "antiphon")


async def test_timeout_raises_unavailable(rooms: LiveKit, livekit: Any) -> None:
    livekit.delay_seconds = 2

    with pytest.raises(LiveKitUnavailable, match=r"no response within 0\.3 s"):
        await rooms.create_room(SESSION, "default", "antiphon")


async def test_refused_connection_raises_unavailable() -> None:
    client = LiveKit(
        "ws://127.0.0.1:1", LiveKitKeys(API_KEY, API_SECRET), deployment="testonly", timeout_seconds=1
    )

    with pytest.raises(LiveKitUnavailable):
        await client.create_room(SESSION, "default", "antiphon")
    await client.close()


async def test_deleting_a_missing_room_succeeds(rooms: LiveKit, livekit: Any) -> None:
    await rooms.create_room(SESSION, "default", "antiphon")

    await rooms.delete_room(SESSION)
    await rooms.delete_room(SESSION)

    assert livekit.rooms == {}
    assert livekit.deleted == [SESSION, SESSION]


async def test_sid_of_a_room_is_that_of_now(rooms: LiveKit, livekit: Any) -> None:
    livekit.rooms["lobby"] = "RM_2"

    assert await rooms.room_sid("lobby") == "RM_2"
    assert await rooms.room_sid("elsewhere") is None


async def test_refused_delete_raises(rooms: LiveKit, livekit: Any) -> None:
    livekit.status = 401

    with pytest.raises(LiveKitRefused):
        await rooms.delete_room(SESSION)


@pytest.mark.parametrize(
    ("given", "websocket", "http"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880", "http://127.0.0.1:7880"),
        ("https://livekit.aws.example/ws", "wss://livekit.aws.example/ws", "https://livekit.aws.example/ws"),
        ("wss://http.example:443", "wss://http.example:443", "https://http.example:443"),
        ("HTTP://wss.example", "ws://wss.example", "http://wss.example"),
    ],
)
def test_only_the_scheme_of_a_url_changes(given: str, websocket: str, http: str) -> None:
    assert (websocket_url(given), http_url(given)) == (websocket, http)
