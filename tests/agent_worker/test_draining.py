"""A worker that is scaled in: its call goes on to the end, new calls go to another worker."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import MISSED, Bus, Subscription
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.registry import open_event
from antiphon.contracts.workers import ALL_WORKERS, WorkerHeartbeat, decode_heartbeat

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

READY_SECONDS = 60
END_SECONDS = 90
LONG_DRAIN = "170"  # seconds: on a busy machine the default ends the call before its caller does
AT_ONCE = 2  # calls before the signal, and after it


class Listener:
    """The newest heartbeat of each pod."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.newest: dict[str, WorkerHeartbeat] = {}

    async def run(self) -> None:
        async for announcement in self._subscription:
            if announcement is MISSED:
                continue
            beat = decode_heartbeat(announcement[1])
            self.newest[beat.pod or ""] = beat

    async def wait_for(self, pod: str, true: Callable[[WorkerHeartbeat], bool]) -> WorkerHeartbeat:
        async with asyncio.timeout(END_SECONDS):
            while pod not in self.newest or not true(self.newest[pod]):  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.02)
        return self.newest[pod]


@pytest.fixture
async def heartbeats(bus: Bus) -> AsyncIterator[Listener]:
    listener = Listener(await bus.subscribe(ALL_WORKERS))  # before a start blocks the event loop
    task = BackgroundTask(listener.run, name="listener")
    yield listener
    await task.close()


async def health_of(worker: "Worker") -> tuple[int, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(worker.health, timeout=10)
    return answer.status_code, str(answer.json()["checks"]["livekit"]["detail"])


async def test_a_busy_worker_ends_its_call_and_another_takes_the_next(
    live_sessions: "Sessions", start_worker: StartWorker, heartbeats: Listener
) -> None:
    leaving = start_worker(
        ANTIPHON_POD_NAME="leaving", ANTIPHON_AGENT_CALLS="3", ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS=LONG_DRAIN
    )
    idle = await heartbeats.wait_for("leaving", lambda beat: not beat.active_calls)
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        busy = await heartbeats.wait_for("leaving", lambda beat: beat.active_calls == 1)
        start_worker(ANTIPHON_POD_NAME="staying", ANTIPHON_AGENT_CALLS="3")
        leaving.process.send_signal(signal.SIGTERM)
        draining = await heartbeats.wait_for("leaving", lambda beat: beat.draining)
        assert await health_of(leaving) == (503, "draining")

        next_id = await live_sessions.request()
        async with live_sessions.caller(next_id) as next_caller:
            await next_caller.wait_until_ready(timeout_seconds=READY_SECONDS)
            taken = await heartbeats.wait_for("staying", lambda beat: beat.active_calls == 1)
            still = heartbeats.newest["leaving"]
        assert caller.log.ended is None
        await caller.say_until_understood("thank you good bye")
        assert await caller.wait_until_gone(timeout_seconds=END_SECONDS)

    ending = open_event(await live_sessions.wait_for(session_id, SessionClosed.TYPE))
    assert isinstance(ending, SessionClosed)
    assert (ending.reason, ending.fault) == (CloseReason.AGENT_ENDED, FaultSide.NONE)
    assert leaving.process.wait(END_SECONDS) == 0
    assert (idle.capacity, idle.draining, busy.draining) == (3, False, False)
    assert (draining.worker, draining.active_calls) == (busy.worker, 1)
    assert (still.active_calls, taken.draining) == (1, False)
    last = await heartbeats.wait_for("leaving", lambda beat: beat.active_calls == 0)
    assert last.draining


async def test_calls_that_come_with_the_signal_all_get_an_agent(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    """Those that the leaving worker has accepted start there, the others at the other worker."""
    leaving = start_worker(ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS="5")
    start_worker()
    requests = [asyncio.create_task(live_sessions.request()) for _ in range(AT_ONCE)]
    await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    leaving.process.send_signal(signal.SIGTERM)
    requests += [asyncio.create_task(live_sessions.request()) for _ in range(AT_ONCE)]
    sessions = await asyncio.gather(*requests)

    joined = await asyncio.gather(*(live_sessions.wait_for(one, AgentJoined.TYPE) for one in sessions))

    assert {envelope.subject for envelope in joined} == set(sessions)
    assert leaving.process.wait(END_SECONDS) == 0


async def test_a_full_worker_leaves_a_call_to_another(
    live_sessions: "Sessions", start_worker: StartWorker, heartbeats: Listener
) -> None:
    async with AsyncExitStack() as callers:
        for pod in ("first", "second"):
            start_worker(ANTIPHON_POD_NAME=pod, ANTIPHON_AGENT_CALLS="1")
            session_id = await live_sessions.request()
            await live_sessions.wait_for(session_id, AgentJoined.TYPE)
            caller = await callers.enter_async_context(live_sessions.caller(session_id))
            await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
            await heartbeats.wait_for(pod, lambda beat: beat.active_calls == 1)
        assert {beat.active_calls for beat in heartbeats.newest.values()} == {1}
