"""The worker on a real LiveKit server; the whole of a call is told by the journeys."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Telephone, Worker

StartWorker = Callable[..., "Worker"]

READY_SECONDS = 30
PROMPT_SECONDS = 4.0  # LiveKit alone would keep the room for another twenty


async def closed(telephone: "Telephone", session_id: str) -> SessionClosed:
    event = open_event(await telephone.wait_for(session_id, SessionClosed.TYPE))
    assert isinstance(event, SessionClosed)
    return event


async def turns(telephone: "Telephone", session_id: str) -> list[TurnSaved]:
    events = [open_event(envelope) for envelope in await telephone.events(session_id)]
    return [event for event in events if isinstance(event, TurnSaved)]


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_a_call_ends_promptly_when_the_caller_leaves(
    telephone: "Telephone", start_worker: StartWorker
) -> None:
    worker = start_worker()
    session_id = await telephone.ring()
    async with telephone.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
    left = time.monotonic()
    ending = await closed(telephone, session_id)
    await telephone.wait_until_gone(session_id)
    assert time.monotonic() - left < PROMPT_SECONDS
    assert (ending.reason, ending.fault, ending.turns) == (CloseReason.CALLER_LEFT, FaultSide.NONE, 0)
    assert [participant.identity for participant in ending.participants] == ["caller"]
    numbers = [event.producerseq for event in await telephone.events(session_id)][1:]
    assert numbers == list(range(1, len(numbers) + 1))
    assert files_in(worker.journals) == []


async def test_a_call_that_has_no_flow_ends_and_says_why(
    telephone: "Telephone", start_worker: StartWorker
) -> None:
    start_worker()
    session_id = await telephone.ring(revision=9)
    async with telephone.caller(session_id) as caller:
        assert await caller.wait_until_gone(timeout_seconds=READY_SECONDS)
    ending = await closed(telephone, session_id)
    assert (ending.reason, ending.detail) == (CloseReason.ERROR, "flow booking has no revision 9")
    error = open_event(await telephone.wait_for(session_id, AgentError.TYPE))
    assert isinstance(error, AgentError)
    assert error.message == "flow booking has no revision 9"


async def test_what_a_killed_job_has_seen_while_the_broker_was_away_is_not_lost(
    telephone: "Telephone", start_worker: StartWorker, nats_server: NatsServer
) -> None:
    worker = start_worker()
    session_id = await telephone.ring()
    async with telephone.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        nats_server.kill()
        await caller.converse("hello")
        worker.job().kill()
        nats_server.start()
        await telephone.wait_for(session_id, TurnSaved.TYPE)
    (turn,) = await turns(telephone, session_id)
    assert turn.user_text == "hello"
    numbers = [event.producerseq for event in await telephone.events(session_id)][1:]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_worker_that_is_told_to_stop_lets_the_call_go_on_and_then_closes_it(
    telephone: "Telephone", start_worker: StartWorker
) -> None:
    worker = start_worker(ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS="6")
    session_id = await telephone.ring()
    async with telephone.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        worker.job().send_signal(signal.SIGTERM)  # as a signal to the whole group would
        worker.process.send_signal(signal.SIGTERM)
        assert await caller.converse("hello")
        assert await caller.wait_until_gone(timeout_seconds=READY_SECONDS)
    ending = await closed(telephone, session_id)
    assert (ending.reason, ending.fault, ending.turns) == (
        CloseReason.WORKER_SHUTDOWN,
        FaultSide.PLATFORM,
        1,
    )
    assert worker.process.wait(30) == 0


async def test_any_agent_is_recorded_by_two_lines(telephone: "Telephone", start_worker: StartWorker) -> None:
    start_worker("-m", "tests.agent_worker.recorded_agent")
    session_id = await telephone.ring(agent_name="echo")
    async with telephone.caller(session_id):
        ending = await closed(telephone, session_id)
    assert ending.reason == CloseReason.AGENT_ENDED
    heard = [(turn.user_text, turn.assistant_text) for turn in await turns(telephone, session_id)]
    assert heard == [("hello", "You said: hello"), ("good bye", "You said: good bye")]
