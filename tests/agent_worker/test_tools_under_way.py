"""Calls on a LiveKit server that end while a tool runs: the caller leaves, or the job is killed."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.contracts.events.agent import AgentLeft
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event
from antiphon.recorder.tools import KILLED

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60
FLOW = """\
id: shop
name: Shop
description: A shop.
agents: {host: {instructions: Help., greeting: Hello.}}
tools: {stuck: {python: "tests.agent_worker.tools.functions:stuck", timeout_seconds: 300}}
script:
  phrases: {look: look it up}
  rules: [{hear: look, call: stuck, say: Here it is., on_failure: I cannot.}]
  fallback: What?
"""


async def events(live_sessions: "Sessions", session_id: str) -> list[object]:
    return [open_event(envelope) for envelope in await live_sessions.events(session_id)]


async def test_a_call_that_ends_in_a_tool_is_on_record(
    live_sessions: "Sessions", start_worker: Callable[..., "Worker"], tmp_path: Path
) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "shop.yaml").write_text(FLOW)
    await publish_flows(live_sessions.bus, flows, tenant="default", now=lambda: datetime.now(UTC))
    worker = start_worker(PYTHONPATH=str(ROOT))

    left = await live_sessions.request(flow_id="shop")
    async with live_sessions.caller(left) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        await caller.room.local_participant.send_text("look it up", topic="lk.chat")
        await live_sessions.wait_for(left, ToolStarted.TYPE)
    closed = open_event(await live_sessions.wait_for(left, SessionClosed.TYPE))
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.CALLER_LEFT
    on_record = await events(live_sessions, left)
    (stopped,) = [event for event in on_record if isinstance(event, ToolCompleted)]
    assert (stopped.status, stopped.output) == ("error", "stuck was stopped: the call has ended")
    (turn,) = [event for event in on_record if isinstance(event, TurnSaved)]
    assert (turn.user_text, turn.tool_call_ids) == ("look it up", [stopped.call_id])
    assert on_record[-1] == closed
    await live_sessions.wait_until_closed(left)

    killed = await live_sessions.request(flow_id="shop")
    async with live_sessions.caller(killed) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        await caller.room.local_participant.send_text("look it up", topic="lk.chat")
        await live_sessions.wait_for(killed, ToolStarted.TYPE)
        worker.job().kill()
        gone = open_event(await live_sessions.wait_for(killed, AgentLeft.TYPE))
    assert isinstance(gone, AgentLeft)
    assert gone.reason == "killed"
    on_record = await events(live_sessions, killed)
    (cancelled,) = [event for event in on_record if isinstance(event, ToolCompleted)]
    assert (cancelled.name, cancelled.status, cancelled.output) == ("stuck", "cancelled", KILLED)
    (turn,) = [event for event in on_record if isinstance(event, TurnSaved)]
    assert turn.recovered
    assert turn.user_text == "look it up"
    assert on_record[-1] == gone
