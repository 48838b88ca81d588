"""Agents that leave a room, on a LiveKit server: which of them closes the session, and for what reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from livekit import api, rtc
from livekit.api.agent_dispatch_service import AgentDispatchService

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.events.media import DataReceived
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

T = TypeVar("T")

SECONDS = 60.0
ASSIGNED_SECONDS = 15.0
ATTEMPTS = 3
AGENTS = ("-m", "tests.agent_worker.leaving_agents")


async def dispatch(live_sessions: "Sessions", session_id: str, way: str) -> None:
    """Dispatch an agent and wait until a worker has its job; LiveKit may lose one of several at a time."""
    metadata = json.dumps({"session_id": session_id, "tenant": "default", "way": way})
    request = api.CreateAgentDispatchRequest(agent_name="leaver", room=session_id, metadata=metadata)
    dispatches = live_sessions.rooms.agent_dispatch
    for _ in range(ATTEMPTS):
        created = await dispatches.create_dispatch(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(ASSIGNED_SECONDS):
                while not await assigned(dispatches, created.id, session_id):  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(0.05)
                return
        await dispatches.delete_dispatch(created.id, session_id)
    raise AssertionError("no worker has got the job")


async def assigned(dispatches: AgentDispatchService, dispatch_id: str, room: str) -> bool:
    try:
        found = await dispatches.get_dispatch(dispatch_id, room)
    except api.TwirpError:  # the agent has deleted the room already
        return True
    return found is not None and any(job.state.worker_id for job in found.state.jobs)


@asynccontextmanager
async def caller(
    live_sessions: "Sessions", session_id: str, identity: str = "caller"
) -> AsyncIterator[rtc.Room]:
    keys = live_sessions.livekit.keys
    grants = api.VideoGrants(room_join=True, room=session_id)
    token = api.AccessToken(keys.key, keys.secret).with_identity(identity).with_grants(grants).to_jwt()
    room = rtc.Room()
    await room.connect(live_sessions.livekit.url, token)
    try:
        yield room
    finally:
        await room.disconnect()


def of_type(kind: type[T], envelopes: list[Envelope]) -> list[tuple[str, T]]:
    events = [(envelope.id, open_event(envelope)) for envelope in envelopes]
    return [(event_id, event) for event_id, event in events if isinstance(event, kind)]


async def until(live_sessions: "Sessions", session_id: str, kind: type[Event], count: int) -> list[Envelope]:
    async with asyncio.timeout(SECONDS):
        while True:
            envelopes = await live_sessions.events(session_id)
            if len(of_type(kind, envelopes)) >= count:
                return envelopes
            await asyncio.sleep(0.1)


async def request(live_sessions: "Sessions") -> str:
    return await live_sessions.request(agent_name="nobody")


async def last_of_two_closes(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "called")
        await dispatch(live_sessions, session_id, "last")
        await until(live_sessions, session_id, TurnSaved, 2)
        await room.local_participant.publish_data(b"", topic="leave")
        envelopes = await until(live_sessions, session_id, SessionClosed, 1)
    (_, left), ((closed_id, closed),) = *of_type(AgentLeft, envelopes), of_type(SessionClosed, envelopes)
    assert (left.reason, left.turns) == (CloseReason.AGENT_ENDED, 1)
    assert (closed.reason, closed.turns) == (CloseReason.AGENT_ENDED, 2)
    assert closed_id == f"{session_id}:closed"
    assert len(of_type(AgentJoined, envelopes)) == 2
    assert len(of_type(TurnSaved, envelopes)) == 3


async def two_together_close_once(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "called")
        await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 2)
        await room.local_participant.publish_data(b"", topic="leave")
        await until(live_sessions, session_id, SessionClosed, 1)
        async with asyncio.timeout(SECONDS):
            while room.remote_participants:  # noqa: ASYNC110 - both are gone, and so is all they write
                await asyncio.sleep(0.1)
        envelopes = await live_sessions.events(session_id)
    assert len(of_type(SessionClosed, envelopes)) == 1


async def survivors_of_a_killed_agent_close(live_sessions: "Sessions", worker: "Worker") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 1)
        worker.job().kill()
        async with asyncio.timeout(SECONDS):
            while room.remote_participants:  # noqa: ASYNC110 - LiveKit notices the kill after a while
                await asyncio.sleep(0.1)
        for _ in range(2):
            await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 3)
        await room.local_participant.publish_data(b"", topic="leave")
        await until(live_sessions, session_id, SessionClosed, 1)
        envelopes = await until(live_sessions, session_id, AgentLeft, 2)  # the others adopt its journal
    assert len(of_type(SessionClosed, envelopes)) == 1
    assert "killed" in [event.reason for _, event in of_type(AgentLeft, envelopes)]


async def deleted_by_its_agent(live_sessions: "Sessions", way: str) -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id):
        await dispatch(live_sessions, session_id, way)
        envelopes = await until(live_sessions, session_id, SessionClosed, 1)
    ((_, closed),) = of_type(SessionClosed, envelopes)
    assert closed.reason == CloseReason.AGENT_ENDED


async def deleted_by_someone_else(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id):
        await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 1)
        await live_sessions.rooms.room.delete_room(api.DeleteRoomRequest(room=session_id))
        envelopes = await until(live_sessions, session_id, SessionClosed, 1)
    ((_, closed),) = of_type(SessionClosed, envelopes)
    assert closed.reason == CloseReason.ENDED_BY_API


async def flood_of_data(live_sessions: "Sessions") -> None:
    session_id = await request(live_sessions)
    async with caller(live_sessions, session_id) as room:
        await dispatch(live_sessions, session_id, "called")
        await until(live_sessions, session_id, TurnSaved, 1)
        for _ in range(500):
            await room.local_participant.publish_data(b"0123456789", topic="flood")
        await room.local_participant.publish_data(b"", topic="leave")
        envelopes = await until(live_sessions, session_id, SessionClosed, 1)
    events = [event for _, event in of_type(DataReceived, envelopes)]
    flood = [event for event in events if event.topic == "flood"]
    assert sum(event.packets for event in flood) == 500
    assert sum(event.size_bytes for event in flood) == 5000
    assert len(flood) < 100


# several sessions on one worker: a worker takes seconds to start


async def test_the_last_agent_to_leave_closes_the_session_once(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker(*AGENTS)
    await asyncio.gather(last_of_two_closes(live_sessions), two_together_close_once(live_sessions))


async def test_who_deletes_the_room_decides_the_reason(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker(*AGENTS)
    await asyncio.gather(
        deleted_by_its_agent(live_sessions, "hang_up"),
        deleted_by_its_agent(live_sessions, "delete_room"),
        deleted_by_someone_else(live_sessions),
        flood_of_data(live_sessions),
    )


async def test_an_agent_that_was_killed_does_not_keep_the_session_open(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    await survivors_of_a_killed_agent_close(live_sessions, start_worker(*AGENTS))
