"""The worker on a LiveKit server; the journeys test whole calls."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

READY_SECONDS = 30
END_SECONDS = 60
PROMPT_SECONDS = 4.0  # LiveKit on its own keeps the room for twenty


async def closed(live_sessions: "Sessions", session_id: str) -> SessionClosed:
    event = open_event(await live_sessions.wait_for(session_id, SessionClosed.TYPE))
    assert isinstance(event, SessionClosed)
    return event


async def turns(live_sessions: "Sessions", session_id: str) -> list[TurnSaved]:
    events = [open_event(envelope) for envelope in await live_sessions.events(session_id)]
    return [event for event in events if isinstance(event, TurnSaved)]


async def emptied(folder: Path) -> None:
    """Wait until the last job has ended and removed its journal."""
    async with asyncio.timeout(READY_SECONDS):
        while any(folder.iterdir()):  # noqa: ASYNC110, ASYNC240 - the job's process has no event for it
            await asyncio.sleep(0.05)


async def test_call_ends_when_the_caller_leaves(live_sessions: "Sessions", start_worker: StartWorker) -> None:
    worker = start_worker()
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
    left = time.monotonic()
    ending = await closed(live_sessions, session_id)
    await live_sessions.wait_until_closed(session_id)
    assert time.monotonic() - left < PROMPT_SECONDS
    assert (ending.reason, ending.fault, ending.turns) == (CloseReason.CALLER_LEFT, FaultSide.NONE, 0)
    assert [participant.identity for participant in ending.participants] == ["caller"]
    numbers = [event.producerseq for event in await live_sessions.events(session_id)][1:]
    assert numbers == list(range(1, len(numbers) + 1))
    await emptied(worker.journals)


async def test_call_without_a_flow_fails_with_the_reason(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker()
    session_id = await live_sessions.request(revision=9)
    async with live_sessions.caller(session_id) as caller:
        assert await caller.wait_until_gone(timeout_seconds=READY_SECONDS)
    failed = open_event(await live_sessions.wait_for(session_id, SessionFailed.TYPE))
    assert isinstance(failed, SessionFailed)
    assert (failed.reason, failed.detail) == (FailureReason.FLOW_NOT_LOADED, "flow booking has no revision 9")
    error = open_event(await live_sessions.wait_for(session_id, AgentError.TYPE))
    assert isinstance(error, AgentError)
    assert error.message == "flow booking has no revision 9"


async def test_journal_of_a_killed_job_is_published(
    live_sessions: "Sessions", start_worker: StartWorker, nats_server: NatsServer
) -> None:
    worker = start_worker()
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        nats_server.kill()
        await caller.converse("hello")
        worker.job().kill()
        nats_server.start()
        await live_sessions.wait_for(session_id, TurnSaved.TYPE)
    (turn,) = await turns(live_sessions, session_id)
    assert turn.user_text == "hello"
    numbers = [event.producerseq for event in await live_sessions.events(session_id)][1:]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_stopping_worker_drains_its_calls(live_sessions: "Sessions", start_worker: StartWorker) -> None:
    worker = start_worker(ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS="6")
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        worker.job().send_signal(signal.SIGTERM)  # as a signal to the process group does
        worker.process.send_signal(signal.SIGTERM)
        assert await caller.converse("hello")
        assert await caller.wait_until_gone(timeout_seconds=READY_SECONDS)
    ending = await closed(live_sessions, session_id)
    assert (ending.reason, ending.fault, ending.turns) == (
        CloseReason.WORKER_SHUTDOWN,
        FaultSide.PLATFORM,
        1,
    )
    assert worker.process.wait(30) == 0


async def test_a_call_goes_on_while_its_worker_drains(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    worker = start_worker()
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        worker.process.send_signal(signal.SIGTERM)
        assert await caller.say_until_understood("hello")
        assert await live_sessions.is_open(session_id)
        assert caller.log.ended is None
        assert worker.process.poll() is None
        await caller.say_until_understood("thank you good bye")
        assert await caller.wait_until_gone(timeout_seconds=END_SECONDS)
    ending = await closed(live_sessions, session_id)
    assert (ending.reason, ending.fault) == (CloseReason.AGENT_ENDED, FaultSide.NONE)
    assert worker.process.wait(END_SECONDS) == 0
    assert list(worker.journals.iterdir()) == []


async def test_a_call_that_outlasts_the_drain_timeout_ends_in_order(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    worker = start_worker(ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS="1")
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        await caller.say_until_understood("i would like to book a table for two")
        states = len(caller.log.states)
        await caller.say("tomorrow at seven")
        assert await caller.log.wait_for(
            lambda: "speaking" in [change.state for change in caller.log.states[states:]], END_SECONDS
        )
        worker.process.send_signal(signal.SIGTERM)  # the answer takes longer than the drain
        assert await caller.wait_until_gone(timeout_seconds=END_SECONDS)
        # the record was complete before the room was closed
        ended = [open_event(envelope) for envelope in await live_sessions.events(session_id)]
        async with asyncio.timeout(END_SECONDS):
            while caller.room.isconnected():  # noqa: ASYNC110 - the log has no entry for it
                await asyncio.sleep(0.05)
    ending = ended[-1]
    assert isinstance(ending, SessionClosed)
    assert (ending.reason, ending.fault) == (CloseReason.WORKER_SHUTDOWN, FaultSide.PLATFORM)
    answer = [event for event in ended if isinstance(event, TurnSaved)][-1]
    assert answer.interrupted
    assert answer.user_text == "tomorrow at seven"
    heard, generated = answer.assistant_text or "", answer.assistant_text_generated or ""
    assert generated.startswith("A table for two, tomorrow at seven.")
    assert len(heard) < len(generated)
    await live_sessions.wait_until_closed(session_id)
    assert worker.process.wait(END_SECONDS) == 0
    assert list(worker.journals.iterdir()) == []


async def test_any_agent_is_recorded_with_two_lines(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker("-m", "tests.agent_worker.recorded_agent")
    session_id = await live_sessions.request(agent_name="echo")
    async with live_sessions.caller(session_id):
        ending = await closed(live_sessions, session_id)
    assert ending.reason == CloseReason.AGENT_ENDED
    texts = [(turn.user_text, turn.assistant_text) for turn in await turns(live_sessions, session_id)]
    assert texts == [("hello", "You said: hello"), ("good bye", "You said: good bye")]


@pytest.mark.parametrize("url", ["nats//broker:4222", "nats://nosuchhost.invalid:4222"])
async def test_recorded_agent_serves_its_call_with_a_wrong_nats_url(
    url: str, live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    worker = start_worker("-m", "tests.agent_worker.recorded_agent", ANTIPHON_NATS_URL=url)
    session_id = await live_sessions.request(agent_name="echo")
    async with live_sessions.caller(session_id) as caller:
        assert await caller.wait_until_gone(timeout_seconds=END_SECONDS)
    # not what the caller read: a line and the news that the agent left come on channels of their own
    (journal,) = worker.journals.glob("*.journal")
    async with asyncio.timeout(END_SECONDS):
        while not all(answer in journal.read_bytes() for answer in (b"said: hello", b"said: good bye")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
