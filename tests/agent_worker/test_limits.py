"""The limits of a session on a LiveKit server: the time to wait for the caller, and the longest call."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

READY_SECONDS = 60
OWN_AGENT = ("-m", "tests.agent_worker.recorded_agent")


async def closed(live_sessions: "Sessions", session_id: str) -> SessionClosed:
    """Wait for the end of a session and of its room; return the one event of its end."""
    await live_sessions.wait_for(session_id, SessionClosed.TYPE)
    await live_sessions.wait_until_closed(session_id)
    [event] = [e for e in await live_sessions.events(session_id) if e.type == SessionClosed.TYPE]
    ending = open_event(event)
    assert isinstance(ending, SessionClosed)
    return ending


async def test_calls_end_at_their_limits(live_sessions: "Sessions", start_worker: StartWorker) -> None:
    start_worker()
    alone = await live_sessions.request(ttl_seconds=2)
    waited = await live_sessions.wait_for(alone, AgentStateChanged.TYPE)
    assert open_event(waited) == AgentStateChanged(old_state="initializing", new_state="listening")
    ending = await closed(live_sessions, alone)
    assert (ending.reason, ending.fault) == (CloseReason.NO_CALLER, FaultSide.CALLER)

    session_id = await live_sessions.request(ttl_seconds=60, max_duration_seconds=3)
    async with live_sessions.caller(session_id) as caller:
        assert await caller.wait_until_gone(timeout_seconds=READY_SECONDS)
    ending = await closed(live_sessions, session_id)
    assert (ending.reason, ending.fault) == (CloseReason.MAX_DURATION, FaultSide.NONE)
    came = await live_sessions.wait_for(session_id, ParticipantConnected.TYPE)
    ended = await live_sessions.wait_for(session_id, SessionClosed.TYPE)
    assert (ended.time - came.time).total_seconds() >= 2.5


async def test_agents_of_ones_own_end_at_the_limits_and_leave_ended_sessions(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker(*OWN_AGENT)
    session_id = await live_sessions.request(agent_name="echo", ttl_seconds=2)
    ending = await closed(live_sessions, session_id)
    assert (ending.reason, ending.fault) == (CloseReason.NO_CALLER, FaultSide.CALLER)
    before = [event.id for event in await live_sessions.events(session_id)]

    await live_sessions.reopen_room(session_id, agent_name="echo")
    await live_sessions.wait_until_closed(session_id)

    assert [event.id for event in await live_sessions.events(session_id)] == before


async def test_a_room_of_an_ended_session_is_closed_again_and_nothing_is_recorded(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    worker = start_worker()
    session_id = await live_sessions.request(ttl_seconds=1)
    await closed(live_sessions, session_id)
    before = [event.id for event in await live_sessions.events(session_id)]

    await live_sessions.reopen_room(session_id)  # as the join token does, that the caller still has
    async with live_sessions.caller(session_id) as caller:
        async with asyncio.timeout(READY_SECONDS):
            while caller.room.isconnected():  # noqa: ASYNC110 - the log has no entry for it
                await asyncio.sleep(0.05)
    await live_sessions.wait_until_closed(session_id)
    async with asyncio.timeout(READY_SECONDS):
        while any(worker.journals.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    assert [event.id for event in await live_sessions.events(session_id)] == before
