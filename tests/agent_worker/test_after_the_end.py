"""Rooms after the end of their session, on a LiveKit server: which are closed, and which go on."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from livekit import api, rtc
from tests.agent_worker.test_leaving import AGENTS, caller, dispatch, of_type, request, until

from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.webhook_ingest.ended_rooms import LiveKitRooms

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

SECONDS = 60.0
STAYS_CLOSED_SECONDS = 5.0


async def one_job_records_twice(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "twice")
        envelopes = await until(live_sessions, session_id, TurnSaved, 2)
        assert room.isconnected()
    assert [turn.user_text for _, turn in of_type(TurnSaved, envelopes)] == ["your consent", "your order"]


async def people_go_on_talking(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room, caller(live_sessions, session_id, "human") as human:
        await dispatch(live_sessions, session_id, "once")
        await until(live_sessions, session_id, SessionClosed, 1)
        await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 2)
        assert room.isconnected()
        assert human.isconnected()
        await human.local_participant.publish_data(b"", topic="leave")


async def a_call_ends_at_its_limit(live_sessions: "Sessions") -> None:
    session_id = await live_sessions.request(agent_name="nobody", max_duration_seconds=2)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "limited")
        envelopes = await until(live_sessions, session_id, SessionClosed, 1)
        await live_sessions.wait_until_closed(session_id)
        await gone(room)
    ((_, closed),) = of_type(SessionClosed, envelopes)
    assert closed.reason == CloseReason.MAX_DURATION


async def a_room_that_is_made_again_is_closed(live_sessions: "Sessions") -> None:
    session_id = await live_sessions.request(agent_name="leaver", ttl_seconds=1)
    await live_sessions.wait_for(session_id, SessionClosed.TYPE)
    await live_sessions.wait_until_closed(session_id)
    before = len(await live_sessions.events(session_id))

    await join_again(live_sessions, session_id)
    for _ in range(int(STAYS_CLOSED_SECONDS / 0.1)):
        assert not await live_sessions.is_open(session_id)
        await asyncio.sleep(0.1)
    assert len(await live_sessions.events(session_id)) == before


async def a_room_that_no_recorder_comes_to_is_closed(live_sessions: "Sessions") -> None:
    session_id = await live_sessions.request(agent_name="nobody")
    server = live_sessions.livekit
    rooms = LiveKitRooms(server.url, LiveKitKeys(server.keys.key, server.keys.secret))
    found = await live_sessions.rooms.room.list_rooms(api.ListRoomsRequest(names=[session_id]))

    assert not await rooms.delete(session_id, "RM_another")
    assert await live_sessions.is_open(session_id)
    assert await rooms.delete(session_id, found.rooms[0].sid)
    await live_sessions.wait_until_closed(session_id)
    assert not await rooms.delete(session_id, found.rooms[0].sid)


async def join_again(live_sessions: "Sessions", session_id: str) -> None:
    """Join with a token that makes the room and dispatches an agent, and wait until it is over."""
    keys = live_sessions.livekit.keys
    metadata = json.dumps({"session_id": session_id, "tenant": "default"})
    dispatched = api.RoomAgentDispatch(agent_name="leaver", metadata=metadata)
    token = api.AccessToken(keys.key, keys.secret).with_identity("caller")
    token.with_grants(api.VideoGrants(room_join=True, room=session_id))
    token.with_room_config(api.RoomConfiguration(metadata=metadata, agents=[dispatched]))
    room = rtc.Room()
    with suppress(rtc.ConnectError):  # the room may be closed before
        await room.connect(live_sessions.livekit.url, token.to_jwt())
    await gone(room)


async def gone(room: rtc.Room) -> None:
    async with asyncio.timeout(SECONDS):
        while room.isconnected():  # noqa: ASYNC110 - the log has no entry for it
            await asyncio.sleep(0.05)


# all on one worker: a worker takes seconds to start
async def test_only_a_room_that_was_made_again_is_closed(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker(*AGENTS)
    await asyncio.gather(
        one_job_records_twice(live_sessions),
        people_go_on_talking(live_sessions),
        a_call_ends_at_its_limit(live_sessions),
        a_room_that_is_made_again_is_closed(live_sessions),
        a_room_that_no_recorder_comes_to_is_closed(live_sessions),
    )
